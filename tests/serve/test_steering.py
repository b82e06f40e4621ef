"""Structured output, penalties, best_of and prompt log-probs through the official client."""

from __future__ import annotations

import json
from typing import Any, Literal

import jsonschema
import openai
import pydantic
import pytest

from hanok.engine.local import LLM

ASK: Any = [{"role": "user", "content": "한옥이 뭐야?"}]
SCHEMA = {
    "type": "object",
    "properties": {"이름": {"enum": ["한옥", "집"]}, "rooms": {"type": "integer", "minimum": 1, "maximum": 99}},
    "required": ["이름", "rooms"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "house", "schema": SCHEMA, "strict": True}}


class House(pydantic.BaseModel):
    """What the client's own helper asks for and reads."""

    kind: Literal["hanok", "villa"]
    rooms: list[bool] = pydantic.Field(max_length=3)


@pytest.mark.parametrize("temperature", [pytest.param(0.0, marks=pytest.mark.slow), 1.5])
def test_response_format(client: openai.OpenAI, temperature: float) -> None:
    """A model that wants to say something else says what the schema allows; and without it, does not."""
    options: Any = {"model": "tiny", "messages": ASK, "temperature": temperature, "max_tokens": 220, "seed": 4}
    answer = client.chat.completions.create(**options, response_format=FORMAT)
    assert answer.choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(answer.choices[0].message.content or ""), SCHEMA)
    chunks = client.chat.completions.create(**options, response_format=FORMAT, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == answer.choices[0].message.content
    free = client.chat.completions.create(**options)
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(free.choices[0].message.content or "")


def test_the_clients_own_parsing(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="tiny", messages=ASK, response_format=House, temperature=1.0, seed=1)
    assert isinstance(answer.choices[0].message.parsed, House)


@pytest.mark.parametrize(
    ("extra", "pattern"),
    [
        ({"guided_choice": ["예", "아니요"]}, "예|아니요"),
        ({"guided_regex": "[0-9]{3}-[가-힣]"}, "[0-9]{3}-[가-힣]"),
        ({"guided_json": {"const": 7}}, "7"),
        ({"guided_grammar": 'root ::= "yes" | "no"'}, "yes|no"),
        ({"structured_outputs": {"choice": ["a", "b"]}}, "a|b"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "null"}}}}, "null"),
    ],
    ids=str,
)
def test_vllms_names(client: openai.OpenAI, extra: dict[str, Any], pattern: str) -> None:
    for answer in (
        client.completions.create(model="tiny", prompt="A", max_tokens=40, extra_body=extra).choices[0].text,
        client.chat.completions.create(model="tiny", messages=ASK, extra_body=extra).choices[0].message.content,
    ):
        jsonschema.validate(answer, {"type": "string", "pattern": f"^({pattern})$"})


def test_logit_bias_and_bad_words(client: openai.OpenAI, llm: LLM) -> None:
    assert llm.tokenizer is not None
    (token,) = llm.tokenizer.encode("A")
    options: Any = {"model": "tiny", "messages": ASK, "temperature": 0, "max_tokens": 3}
    biased = client.chat.completions.create(**options, logit_bias={str(token): 100})
    assert biased.choices[0].message.content == "AAA"
    free = client.chat.completions.create(**options).choices[0].message.content or ""
    other = client.chat.completions.create(**options, extra_body={"bad_words": [free[:2]]})
    assert free[:2] not in (other.choices[0].message.content or "")
    strong = client.chat.completions.create(**options, logit_bias={str(token): 100}, frequency_penalty=2.0)
    assert (strong.choices[0].message.content or "").startswith("A")


def test_best_of_tells_the_best(client: openai.OpenAI) -> None:
    """The n best of what n alone would draw, by mean log-prob; every token that was drawn is counted."""
    options: Any = {"model": "tiny", "prompt": "A hanok", "temperature": 1.5, "seed": 5, "max_tokens": 6, "logprobs": 0}
    every = client.completions.create(**options, n=6)
    means = {choice.text: mean(choice) for choice in every.choices}
    kept = client.completions.create(**options, n=2, best_of=6)
    assert [choice.text for choice in kept.choices] == sorted(means, key=lambda text: -means[text])[:2]
    assert [choice.index for choice in kept.choices] == [0, 1]
    assert kept.usage is not None and every.usage is not None
    assert kept.usage.completion_tokens == every.usage.completion_tokens
    quiet = client.completions.create(**{**options, "logprobs": None}, n=1, best_of=6)
    assert quiet.choices[0].text == kept.choices[0].text and quiet.choices[0].logprobs is None


def mean(choice: Any) -> float:
    values: list[float] = choice.logprobs.token_logprobs
    return sum(values) / len(values)


def test_prompt_logprobs(client: openai.OpenAI, llm: LLM) -> None:
    extra = {"prompt_logprobs": 2}
    answer = client.completions.create(model="tiny", prompt="A hanok is", max_tokens=2, extra_body=extra)
    told: Any = (answer.choices[0].model_extra or {})["prompt_logprobs"]
    want = llm.generate("A hanok is", 1, prompt_logprobs=2)
    assert told[0] is None and len(told) == want.prompt_tokens
    for token, value, table in zip(want.prompt_ids[1:], want.prompt_logprobs[1:], told[1:], strict=True):
        assert table[str(token)]["logprob"] == pytest.approx(value, abs=1e-4) and 2 <= len(table) <= 3
    chat = client.chat.completions.create(model="tiny", messages=ASK, max_tokens=2, extra_body=extra)
    assert len((chat.model_extra or {})["prompt_logprobs"]) == chat.usage.prompt_tokens  # type: ignore[union-attr]
    plain = client.completions.create(model="tiny", prompt="A hanok is", max_tokens=2)
    assert "prompt_logprobs" not in (plain.choices[0].model_extra or {})
