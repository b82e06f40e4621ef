"""Responses, embeddings and tokens through the official client and as `curl` would ask."""

from __future__ import annotations

import base64
import json
import struct
import time
from pathlib import Path

import openai
import pytest
import torch
import transformers

import hanok
from hanok.engine.local import LLM
from hanok.serve import Server

from .conftest import KOREAN
from .wire import error_of, open_request, send

ASK = "What is 7 + 5?"
TEXTS = ["The quick brown fox jumps over the lazy dog.", "한옥은 나무로 짠 집입니다."]


def test_a_response_has_items_and_usage(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="tiny", input=ASK, temperature=0, metadata={"a": "b"})
    thought, message = answer.output
    assert thought.type == "reasoning" and thought.content and thought.content[0].text.startswith("Seven")
    assert message.type == "message" and answer.output_text == "It is 12." and answer.status == "completed"
    assert answer.usage and answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert 0 < answer.usage.output_tokens_details.reasoning_tokens < answer.usage.output_tokens
    assert answer.metadata == {"a": "b"} and answer.previous_response_id is None
    again = [{"role": "user", "content": [{"type": "input_text", "text": ASK}]}, *answer.output]
    items = [*again, {"role": "user", "content": "x"}]
    assert client.responses.create(model="tiny", input=items, max_output_tokens=2).status == "incomplete"


def test_a_streamed_response_builds_what_the_whole_one_says(client: openai.OpenAI) -> None:
    names: list[str] = []
    with client.responses.stream(model="tiny", input=ASK, temperature=0, instructions=None) as stream:
        for number, event in enumerate(stream):
            assert number or event.type == "response.created"
            if event.type != (names[-1] if names else ""):
                names.append(event.type)
        final = stream.get_final_response()
    assert final.output_text == "It is 12." and names[1] == "response.in_progress"
    item = ["output_item.added", "content_part.added", "output_text.delta", "output_text.done"]
    item += ["content_part.done", "output_item.done"]
    assert names[-7:] == [f"response.{name}" for name in [*item, "completed"]]
    whole = client.responses.create(model="tiny", input="한옥이 뭐야?", temperature=0, top_logprobs=2)
    assert whole.output_text == KOREAN and whole.output[0].type == "message"
    logprobs = whole.output[0].content[0].logprobs
    assert logprobs and b"".join(bytes(entry.bytes) for entry in logprobs).decode() == KOREAN


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "c"}, "conversation"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user"}]}, None),
        ({"max_output_tokens": 10**6}, "max_output_tokens"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"temperature": 3}, "temperature"),
    ],
)
def test_what_responses_refuses(server: Server, change: dict[str, object], param: str | None) -> None:
    answer = send(server.url, "/v1/responses", {"input": ASK, **change})
    assert answer[0] == 400, answer
    assert param is None or error_of(answer)["param"] == param


def test_embeddings_are_the_model_s_own(client: openai.OpenAI, llm: LLM, server: Server) -> None:
    texts = ["The quick brown fox", "한옥은 나무로 짠 집입니다."]
    wanted = llm.embed(texts)
    answer = client.embeddings.create(model="tiny", input=texts)  # the client asks for base64 by itself
    assert [entry.index for entry in answer.data] == [0, 1] and answer.usage.total_tokens > 5
    assert torch.equal(torch.tensor([entry.embedding for entry in answer.data]), wanted)
    numbers = client.embeddings.create(model="tiny", input=texts[0], encoding_format="float")
    assert torch.allclose(torch.tensor(numbers.data[0].embedding), wanted[0], atol=1e-5)
    assert llm.tokenizer is not None
    ids = llm.tokenizer.encode(texts[0])
    twice = torch.tensor([entry.embedding for entry in client.embeddings.create(model="tiny", input=[ids, ids]).data])
    assert torch.allclose(twice, wanted[:1].expand(2, -1), atol=1e-5)
    short = client.embeddings.create(model="tiny", input=texts[0], dimensions=8).data[0].embedding
    assert len(short) == 8 and sum(value * value for value in short) == pytest.approx(1)
    raw = json.loads(send(server.url, "/v1/embeddings", {"input": texts[0], "encoding_format": "base64"})[2])
    packed = base64.b64decode(raw["data"][0]["embedding"])
    assert struct.unpack("<64f", packed) == pytest.approx(wanted[0].tolist(), abs=1e-5)


def test_an_encoder_is_served_for_its_vectors(tmp_path: Path) -> None:
    """A BERT has vectors and no answers: the one works as the model says, the other is refused with a reason."""
    config = transformers.BertConfig(
        vocab_size=300, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    hanok.Tokenizer.train(TEXTS * 20, vocab_size=300).save(tmp_path)
    wanted = hanok.load(tmp_path).embed(TEXTS)
    with Server(tmp_path, port=0, model_name="bert") as running:
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none")
        answer = client.embeddings.create(model="bert", input=TEXTS)
        torch.testing.assert_close(torch.tensor([entry.embedding for entry in answer.data]), wanted)
        assert [card.id for card in client.models.list()] == ["bert"]
        refused = send(running.url, "/v1/completions", {"prompt": "a", "max_tokens": 2})
        assert refused[0] == 400, refused
        assert send(running.url, "/ready")[0] == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [10**6]}, "input"),
        ({"input": "word " * 500}, "input"),
        ({"input": "a", "dimensions": 65}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_what_embeddings_refuses(server: Server, body: dict[str, object], param: str) -> None:
    answer = send(server.url, "/v1/embeddings", body)
    assert answer[0] == 400 and str(error_of(answer)["param"]).startswith(param), answer


def test_tokens_there_and_back(server: Server, llm: LLM) -> None:
    assert llm.tokenizer is not None and llm.chat is not None
    plain = json.loads(send(server.url, "/tokenize", {"prompt": "한옥", "add_special_tokens": False})[2])
    ids = llm.tokenizer.encode("한옥")
    assert plain == {"count": len(ids), "max_model_len": 256, "tokens": ids}
    begun = json.loads(send(server.url, "/tokenize", {"prompt": "한옥", "return_token_strs": True})[2])
    assert begun["tokens"] == [llm.tokenizer.bos_id, *ids] and len(begun["token_strs"]) == len(ids) + 1
    messages = [{"role": "user", "content": "<|im_end|>x"}]
    for generation in (True, False):
        body = {"messages": messages, "add_generation_prompt": generation}
        told = json.loads(send(server.url, "/tokenize", body)[2])["tokens"]
        assert told == llm.chat.encode(llm.tokenizer, messages, generation=generation).tokens
    text = json.loads(send(server.url, "/detokenize", {"tokens": ids})[2])["prompt"]
    assert text == "한옥"
    for path, body in (("/tokenize", {}), ("/tokenize", {"prompt": "a", "messages": messages})):
        assert send(server.url, path, body)[0] == 400
    assert error_of(send(server.url, "/detokenize", {"tokens": [10**6]}))["param"] == "tokens"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"max_tokens": 200, "stream": True, "messages": [{"role": "user", "content": "x"}]}),
        ("/v1/messages", {"max_tokens": 200, "messages": [{"role": "user", "content": "x"}]}),
        ("/v1/responses", {"input": "x", "max_output_tokens": 200, "stream": True}),
        ("/v1/embeddings", {"input": ["word " * 40] * 200}),
    ],
)
def test_leaving_frees_every_endpoint(server: Server, path: str, body: dict[str, object]) -> None:
    link = open_request(server.url, path, body)
    link.close()
    deadline = time.monotonic() + 30
    while server.app.state.gateway.inflight and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.app.state.gateway.inflight == 0


def test_a_begun_reply_goes_on(client: openai.OpenAI) -> None:
    begun = "안녕하세요! 한옥은"
    messages = [{"role": "user", "content": "한옥이 뭐야?"}, {"role": "assistant", "content": begun}]
    more = {"continue_final_message": True, "add_generation_prompt": False}
    answer = client.chat.completions.create(model="tiny", messages=messages, temperature=0, extra_body=more)
    assert begun + (answer.choices[0].message.content or "") == KOREAN
