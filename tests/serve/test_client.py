"""The official client against the real server: what it relies on, field by field."""

from __future__ import annotations

import asyncio
import math
import unicodedata
from typing import Any

import openai
import pytest
import torch
from openai.types.chat import ChatCompletionChunk

from hanok.engine.local import LLM
from hanok.serve import Server

from .conftest import ANSWERS, KOREAN

ASK = [{"role": "user", "content": "한옥이 뭐야?"}]


def chunks_of(client: openai.OpenAI, **options: object) -> list[ChatCompletionChunk]:
    return list(client.chat.completions.create(model="tiny", messages=ASK, temperature=0, stream=True, **options))


@pytest.mark.parametrize("question", ANSWERS)
def test_chat_answers_with_usage(client: openai.OpenAI, question: str) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": question}], temperature=0
    )
    choice = answer.choices[0]
    thought, mark, said = ANSWERS[question].removeprefix("<think>").rpartition("</think>")
    assert choice.message.role == "assistant" and choice.message.content == said
    assert (choice.message.model_extra or {}).get("reasoning_content") == (thought if mark else None)
    assert choice.finish_reason == "stop" and answer.object == "chat.completion" and answer.model == "tiny"
    assert answer.usage is not None and answer.usage.total_tokens == (
        answer.usage.prompt_tokens + answer.usage.completion_tokens
    )


def test_korean_streams_in_whole_syllables(client: openai.OpenAI, llm: LLM) -> None:
    pieces = [choice.delta.content or "" for chunk in chunks_of(client) for choice in chunk.choices]
    assert "".join(pieces) == KOREAN and not any("\ufffd" in piece for piece in pieces)
    assert all(unicodedata.is_normalized("NFC", piece) for piece in pieces)
    # The control: token by token, the same answer does fall apart, so the stream had something to mend.
    assert llm.tokenizer is not None
    tokens = llm.tokenizer.encode(KOREAN)
    assert any("\ufffd" in llm.tokenizer.decode([token]) for token in tokens)


def test_stream_without_usage_has_no_usage_chunk(client: openai.OpenAI) -> None:
    chunks = chunks_of(client)
    assert all(chunk.choices for chunk in chunks) and all("usage" not in chunk.model_fields_set for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.role for chunk in chunks[1:]] == [None] * (len(chunks) - 1)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1


def test_stream_with_usage_ends_with_it(client: openai.OpenAI) -> None:
    *chunks, last = chunks_of(client, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage is not None and last.usage.completion_tokens > 10
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set and chunk.choices for chunk in chunks)


def test_several_choices_interleave_and_repeat_with_a_seed(client: openai.OpenAI) -> None:
    def ask(n: int) -> list[str]:
        whole = client.chat.completions.create(model="tiny", messages=ASK, n=n, seed=11, temperature=2, max_tokens=30)
        assert [choice.index for choice in whole.choices] == list(range(n))
        return [choice.message.content or "" for choice in whole.choices]

    two = ask(2)
    assert two[0] != two[1], "the choices draw different numbers"
    assert ask(2) == two and ask(1) == two[:1]
    texts = ["", ""]
    order = []
    for chunk in client.chat.completions.create(
        model="tiny", messages=ASK, n=2, seed=11, temperature=2, max_tokens=30, stream=True
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            order.append(choice.index)
    assert texts == two
    assert order != sorted(order), "the choices come interleaved"


def test_stop_strings_end_the_text_before_them(client: openai.OpenAI) -> None:
    for stop in ("방마다", ["nothing", "방마다"]):
        whole = client.chat.completions.create(model="tiny", messages=ASK, temperature=0, stop=stop)
        assert whole.choices[0].message.content == KOREAN.split("방마다")[0]
        assert whole.choices[0].finish_reason == "stop"
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks_of(client, stop="방마다"))
    assert streamed == KOREAN.split("방마다")[0]


def test_length_is_said(client: openai.OpenAI) -> None:
    for options in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        whole = client.chat.completions.create(model="tiny", messages=ASK, **options)
        assert whole.choices[0].finish_reason == "length" and whole.usage and whole.usage.completion_tokens == 3


def test_logprobs_have_bytes_and_alternatives(client: openai.OpenAI, llm: LLM) -> None:
    options = {"model": "tiny", "messages": ASK, "temperature": 0, "logprobs": True, "top_logprobs": 4}
    whole = client.chat.completions.create(**options)
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert b"".join(bytes(entry.bytes or []) for entry in logprobs.content).decode() == KOREAN
    for entry in logprobs.content:
        assert len(entry.top_logprobs) == 4 and entry.top_logprobs[0].token == entry.token
        values = [other.logprob for other in entry.top_logprobs]
        assert values == sorted(values, reverse=True) and math.isclose(values[0], entry.logprob)
        assert sum(map(math.exp, values)) <= 1 + 1e-5
    streamed = [
        entry
        for chunk in client.chat.completions.create(**options, stream=True)
        if chunk.choices[0].logprobs is not None
        for entry in chunk.choices[0].logprobs.content or []
    ]
    assert [entry.token for entry in streamed] == [entry.token for entry in logprobs.content]
    # The numbers are those of the model itself.
    assert llm.tokenizer is not None and llm.chat is not None
    prompt = llm.chat.encode(llm.tokenizer, ASK, generation=True).tokens
    tokens = llm.tokenizer.encode(KOREAN)
    direct = llm.logprobs(torch.tensor([[*prompt, *tokens]]))[0, len(prompt) - 1 :].tolist()
    assert [entry.logprob for entry in logprobs.content] == pytest.approx(direct, abs=1e-3)


def test_completions_take_text_tokens_and_lists_of_both(client: openai.OpenAI, llm: LLM) -> None:
    assert llm.tokenizer is not None and llm.tokenizer.bos_id is not None
    text = "The quick brown"
    ids = [llm.tokenizer.bos_id, *llm.tokenizer.encode(text)]
    one = client.completions.create(model="tiny", prompt=text, temperature=0, max_tokens=8)
    assert one.object == "text_completion" and one.usage and one.usage.prompt_tokens == len(ids)
    same = client.completions.create(model="tiny", prompt=ids, temperature=0, max_tokens=8)
    assert same.choices[0].text == one.choices[0].text
    for many in ([text, "한옥"], [ids, [3, 4, 5]]):
        both = client.completions.create(model="tiny", prompt=many, temperature=0, max_tokens=8, n=2)
        assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
        assert both.choices[0].text == both.choices[1].text == one.choices[0].text
    pieces = client.completions.create(model="tiny", prompt=text, temperature=0, max_tokens=8, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == one.choices[0].text
    assert client.completions.create(model="tiny", prompt=text, max_tokens=None).usage.completion_tokens <= 16


def test_echo_scores_the_prompt(client: openai.OpenAI, llm: LLM) -> None:
    assert llm.tokenizer is not None and llm.tokenizer.bos_id is not None
    text = "한옥은 나무로 짠 집입니다."
    ids = [llm.tokenizer.bos_id, *llm.tokenizer.encode(text)]
    scored = client.completions.create(model="tiny", prompt=text, max_tokens=0, echo=True, logprobs=2)
    choice = scored.choices[0]
    assert choice.text == text and scored.usage and scored.usage.completion_tokens == 0
    assert choice.logprobs is not None and choice.logprobs.token_logprobs is not None
    assert choice.logprobs.token_logprobs[0] is None
    assert choice.logprobs.token_logprobs[1:] == pytest.approx(llm.logprobs(torch.tensor([ids]))[0].tolist(), abs=1e-4)
    assert choice.logprobs.text_offset is not None and choice.logprobs.text_offset[:2] == [0, 0]
    assert choice.logprobs.text_offset == sorted(choice.logprobs.text_offset)
    assert choice.logprobs.top_logprobs is not None and len(choice.logprobs.top_logprobs[1]) in (2, 3)
    for stream in (False, True):
        parts = client.completions.create(
            model="tiny", prompt=text, max_tokens=4, echo=True, logprobs=0, temperature=0, stream=stream
        )
        pieces = [part.choices[0] for part in (parts if stream else [parts])]
        told = [value for piece in pieces for value in (piece.logprobs.token_logprobs if piece.logprobs else [])]
        assert "".join(piece.text for piece in pieces).startswith(text) and len(told) in (len(ids) + 3, len(ids) + 4)


def test_every_token_has_a_logprob_also_the_one_that_ends(client: openai.OpenAI, llm: LLM) -> None:
    """As lm-eval's local-completions sums them: echo, one token more, and all but the last of the prompt's."""
    end = min(llm.stop_ids)
    options: dict[str, Any] = {"model": "tiny", "prompt": "reverse: k e a", "temperature": 0, "logprobs": 1}
    for stop, bias in ((True, {str(end): 100}), (False, {str(end): -100})):
        answer = client.completions.create(**options, max_tokens=1, echo=True, logit_bias=bias)
        (choice,), usage = answer.choices, answer.usage
        assert (choice.finish_reason == "stop") == stop
        assert choice.logprobs is not None and choice.logprobs.token_logprobs is not None and usage is not None
        assert len(choice.logprobs.token_logprobs) == usage.prompt_tokens + 1 == usage.total_tokens
        assert len(choice.logprobs.top_logprobs or []) == len(choice.logprobs.text_offset or []) == usage.total_tokens


def test_models_are_listed(client: openai.OpenAI) -> None:
    (card,) = client.models.list().data
    assert card.id == "tiny" and card.object == "model" and card.model_extra == {"max_model_len": 256}
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-9", messages=ASK)
    assert refused.value.code == "model_not_found" and refused.value.param == "model"


def test_fifty_streams_at_once_all_complete(server: Server, llm: LLM) -> None:
    async def one(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(model="tiny", messages=ASK, temperature=0, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def fifty() -> list[str]:
        async with openai.AsyncOpenAI(base_url=server.api_url, api_key="x", max_retries=0, timeout=60) as client:
            return await asyncio.gather(*(one(client) for _ in range(50)))

    assert asyncio.run(fifty()) == [KOREAN] * 50
    assert server.worker is not None and server.worker.stats().pages_used == 0
