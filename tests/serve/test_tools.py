"""Tools through both official clients: calls are forced by a grammar, so an untrained model makes them too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from hanok.engine.local import LLM
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.serve import Server
from hanok.text.chat import CHATS
from hanok.text.chat.chatml import BEFORE, BEHIND
from hanok.text.chat.jinja import JinjaChat
from hanok.text.tokenizer import Tokenizer

from .wire import error_of, send

CITY = {"type": "string", "pattern": "^[a-z]{2,5}$"}
WEATHER = {"type": "object", "properties": {"city": CITY}, "required": ["city"], "additionalProperties": False}
DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}
NUMBER = {"$defs": {"Digit": DIGIT}, "type": "object", "properties": {"n": {"$ref": "#/$defs/Digit"}}}
NUMBER |= {"required": ["n"], "additionalProperties": False}
SCHEMAS = {"weather": WEATHER, "half": NUMBER}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": it}} for name, it in SCHEMAS.items()]
ASK = [{"role": "user", "content": "Hi"}]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "seoul"}}\n</tool_call>'
PLAIN = {"model": "any", "messages": ASK, "tools": TOOLS, "seed": 3, "max_tokens": 120}


@pytest.fixture(scope="module")
def workshop() -> Iterator[Server]:
    texts = [BEFORE, BEHIND, json.dumps(TOOLS), "<think>Hm.</think>Let me look."]
    tokenizer = Tokenizer.train(texts * 3, vocab_size=500)
    config = ModelConfig.preset("llama-tiny", vocab=tokenizer.vocab_size, dim=32, depth=1, context=1024)
    llm = LLM(Model(config, seed=1), tokenizer, CHATS["chatml"]())
    with Server(llm, port=0, model_name="any") as running:
        yield running


@pytest.fixture
def client(workshop: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=workshop.api_url, api_key="x", max_retries=0, timeout=60) as made:
        yield made


def said(*texts: str) -> dict[str, Any]:
    """Return what makes the model write one of these texts."""
    return {"extra_body": {"structured_outputs": {"choice": list(texts)}}}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_named_tool_is_called_with_arguments_of_its_schema(client: openai.OpenAI, name: str) -> None:
    named = {"type": "function", "function": {"name": name}}
    for choice, allowed in ((named, [name]), ("required", list(SCHEMAS))):
        answer = client.chat.completions.create(**PLAIN, tool_choice=choice)
        (call,) = answer.choices[0].message.tool_calls or []
        assert call.function.name in allowed and answer.choices[0].finish_reason == "tool_calls"
        assert answer.choices[0].message.content is None and call.id
        arguments = json.loads(call.function.arguments)
        if call.function.name == "half":
            assert arguments["n"] in range(10)
        else:
            assert 2 <= len(arguments["city"]) <= 5


def test_a_streamed_call_is_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**PLAIN, tool_choice="required").choices[0].message
    calls, reasons = [], []
    for chunk in client.chat.completions.create(**PLAIN, tool_choice="required", stream=True):
        calls += chunk.choices[0].delta.tool_calls or []
        reasons.append(chunk.choices[0].finish_reason)
        assert not chunk.choices[0].delta.content
    assert whole.tool_calls is not None and reasons[-1] == "tool_calls"
    assert [(call.index, call.function and call.function.arguments) for call in calls] == [
        (0, whole.tool_calls[0].function.arguments)
    ]


def test_a_free_reply_is_taken_apart(client: openai.OpenAI) -> None:
    text = f"<think>Hm.</think>Let me look.\n{CALL}\n{CALL}"
    answer = client.chat.completions.create(**PLAIN, **said(text)).choices[0]
    told = answer.message.model_dump()
    assert told["reasoning_content"] == "Hm." and told["content"] == "Let me look."
    assert [call["function"]["arguments"] for call in told["tool_calls"]] == ['{"city": "seoul"}'] * 2
    assert len({call["id"] for call in told["tool_calls"]}) == 2 and answer.finish_reason == "tool_calls"
    alone = client.chat.completions.create(**PLAIN, **said(text), parallel_tool_calls=False).choices[0].message
    assert len(alone.tool_calls or []) == 1
    for options in ({"tools": None}, {"tool_choice": "none"}):
        plain = client.chat.completions.create(**{**PLAIN, **options, **said(text)}).choices[0]
        assert plain.message.tool_calls is None and CALL in (plain.message.content or "")
        assert plain.finish_reason == "stop"


def test_results_go_back_and_the_model_reads_them(client: openai.OpenAI, workshop: Server) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "seoul"}'}}
    talk = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    ids = json.loads(send(workshop.url, "/tokenize", {"messages": talk, "tools": TOOLS})[2])["tokens"]
    text = json.loads(send(workshop.url, "/detokenize", {"tokens": ids})[2])["prompt"]
    assert f"{CALL}<|im_end|>" in text and "<|im_start|>tool\nsunny<|im_end|>" in text and BEFORE in text
    answer = client.chat.completions.create(**{**PLAIN, "messages": talk}, **said("Sunny."))
    assert answer.choices[0].message.content == "Sunny." and answer.usage and answer.usage.prompt_tokens == len(ids)


def test_anthropic_s_blocks(workshop: Server) -> None:
    tools = [{"name": name, "input_schema": schema} for name, schema in SCHEMAS.items()]
    base = {"model": "any", "max_tokens": 120, "messages": ASK, "tools": tools}
    with anthropic.Anthropic(base_url=workshop.url, api_key="x", max_retries=0, timeout=60) as claude:
        for choice in ({"type": "any"}, {"type": "tool", "name": "half"}):
            message = claude.messages.create(**base, tool_choice=choice)
            (block,) = message.content
            assert block.type == "tool_use" and message.stop_reason == "tool_use" and isinstance(block.input, dict)
        with claude.messages.stream(**base, tool_choice={"type": "tool", "name": "half"}) as stream:
            (block,) = stream.get_final_message().content
        assert block.type == "tool_use" and block.name == "half" and block.input["n"] in range(10)
        result = {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "2"}]}
        turns = [*ASK, {"role": "assistant", "content": [block.to_dict()]}, {"role": "user", "content": [result]}]
        again = claude.messages.create(**{**base, "messages": turns, "max_tokens": 4})
        assert again.usage.input_tokens > message.usage.input_tokens


def test_responses_items(client: openai.OpenAI) -> None:
    tools = [{"type": "function", "name": name, "parameters": schema} for name, schema in SCHEMAS.items()]
    base = {"model": "any", "input": "Hi", "tools": tools, "max_output_tokens": 120}
    answer = client.responses.create(**base, tool_choice={"type": "function", "name": "weather"})
    (call,) = answer.output
    assert call.type == "function_call" and call.name == "weather" and answer.status == "completed"
    names = []
    for event in client.responses.create(**base, tool_choice="required", stream=True):
        names.append(event.type)
    assert names == [
        *("response.created", "response.in_progress", "response.output_item.added"),
        *("response.function_call_arguments.delta", "response.function_call_arguments.done"),
        *("response.output_item.done", "response.completed"),
    ]
    turns = [
        {"role": "user", "content": "Hi"},
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]
    again = client.responses.create(**{**base, "input": turns, "max_output_tokens": 2})
    assert again.status == "incomplete" and again.incomplete_details is not None
    assert again.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, None),
        ({"tools": [TOOLS[0]] * 129}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "["}}]}]}, None),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [{}]}]}, "messages[0].tool_calls"),
    ],
)
def test_bad_tools_are_refused(workshop: Server, change: dict[str, Any], param: str | None) -> None:
    answer = send(workshop.url, "/v1/chat/completions", {**PLAIN, **change})
    assert answer[0] == 400, answer
    assert param is None or error_of(answer)["param"] == param, answer


def test_a_format_without_tools_says_so(llm: LLM) -> None:
    assert llm.tokenizer is not None
    source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
    with Server(LLM(llm.model, llm.tokenizer, JinjaChat(source, llm.tokenizer)), port=0) as bare:
        answer = send(bare.url, "/v1/chat/completions", {**PLAIN, "model": None})
        assert answer[0] == 400 and error_of(answer)["param"] == "tools"
