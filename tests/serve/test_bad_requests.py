"""A bad request hurts only itself: 4xx with the field that is wrong, never 5xx, and the engine is as before."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanok.serve import Server

from .conftest import KOREAN
from .wire import error_of, send

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
MESSAGES = [{"role": "user", "content": "한옥이 뭐야?"}]

WRONG_CHAT: list[tuple[dict[str, Any], str | None]] = [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": [{}]}, "messages[0].role"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages[0].content"),
    ({"messages": [{"role": "tool"}]}, "messages[0]"),
    ({"continue_final_message": True}, "continue_final_message"),
    ({"add_generation_prompt": False}, "add_generation_prompt"),
    ({"messages": [{"role": "user", "content": "x" * 20000}]}, "max_tokens"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.5}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"top_k": 2**63}, "top_k"),
    ({"min_p": 2}, "min_p"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"n": 10**9}, "n"),
    ({"n": True}, "n"),
    ({"n": 1.5}, "n"),
    ({"seed": 2**63}, "seed"),
    ({"seed": "x"}, "seed"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"stop": "a" * 257}, "stop"),
    ({"stop": ""}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"stop_token_ids": [-1]}, "stop_token_ids"),
    ({"stop_token_ids": [10**6]}, "stop_token_ids"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 10**6}, "max_tokens"),
    ({"max_completion_tokens": 2**31 - 1}, "max_completion_tokens"),
    ({"min_tokens": 10, "max_tokens": 5}, "min_tokens"),
    ({"logprobs": 3}, "logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": "yes"}, "stream"),
    ({"user": "u" * 2000}, "user"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"100000": 1}}, "logit_bias"),
    ({"logit_bias": {str(at): 1 for at in range(1025)}}, "logit_bias"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"frequency_penalty": -2.5}, "frequency_penalty"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"typical_p": 0}, "typical_p"),
    ({"bad_words": [""]}, "bad_words"),
    ({"bad_words": ["a"] * 257}, "bad_words"),
    ({"prompt_logprobs": 21}, "prompt_logprobs"),
    ({"prompt_logprobs": -1}, "prompt_logprobs"),
    ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "yaml"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "integr"}}}}, "response_format"),
    ({"guided_json": {"$ref": "http://127.0.0.1/x"}}, "guided_json"),
    ({"guided_json": json.loads('{"items":' * 33 + "{}" + "}" * 33)}, "guided_json"),
    ({"guided_json": {"enum": list(range(5000))}}, "guided_json"),
    ({"guided_regex": "(a{1000}){1000}"}, "guided_regex"),
    ({"guided_regex": "("}, "guided_regex"),
    ({"guided_choice": []}, "guided_choice"),
    ({"guided_grammar": "start: x"}, "guided_grammar"),
    ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
    ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "structured_outputs"),
    ({"use_beam_search": True}, "use_beam_search"),
    ({"chat_template": "{{ 1 }}"}, "chat_template"),
]

WRONG_TEXT: list[tuple[dict[str, Any], str | None]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": [10**9]}, "prompt"),
    ({"prompt": {"a": 1}}, "prompt"),
    ({"prompt": ["a"] * 257}, "prompt"),
    ({"prompt": "a", "suffix": "b"}, "suffix"),
    ({"prompt": "a", "best_of": 1, "n": 2}, "best_of"),
    ({"prompt": "a", "best_of": 129}, "best_of"),
    ({"prompt": "a", "best_of": 2, "stream": True}, "best_of"),
    ({"prompt": "a", "logprobs": 21}, "logprobs"),
    ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
    ({"prompt": [5] * 300, "max_tokens": 0, "echo": True}, "prompt"),
    ({"prompt": "\ud83d"}, None),
]

FINE = [
    {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "logit_bias": {}, "presence_penalty": 0},
    {"stop": None, "temperature": None, "n": None, "seed": None, "max_tokens": None, "logprobs": None, "user": "me"},
    {"a_field_from_the_future": {"x": 1}, "metadata": {"a": "b"}, "store": False, "parallel_tool_calls": True},
    {"seed": -(2**63), "top_k": -1, "min_p": 0.1, "top_p": 1, "temperature": 2, "stop": ["a" * 256] * 16},
    {"messages": [{"role": "developer", "content": [{"type": "text", "text": "a"}]}, *MESSAGES]},
    {"logprobs": True, "top_logprobs": 20},
    {"n": 16, "max_tokens": 1},
    {"logit_bias": {str(at): 1 for at in range(300)}, "presence_penalty": -2, "frequency_penalty": 2.0},
    {"repetition_penalty": 1.3, "typical_p": 0.9, "bad_words": ["a", "한옥"], "prompt_logprobs": 20},
    {"response_format": {"type": "json_object"}, "temperature": 1},
]


@pytest.mark.parametrize(("change", "param"), WRONG_CHAT, ids=[str(case)[:60] for case, _ in WRONG_CHAT])
def test_chat_refuses_and_names_the_field(server: Server, change: dict[str, Any], param: str | None) -> None:
    answer = send(server.url, CHAT, {"model": "tiny", "messages": MESSAGES, "max_tokens": 5, **change})
    assert answer[0] == 400, answer
    assert error_of(answer)["param"] == param and error_of(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize(("body", "param"), WRONG_TEXT, ids=[str(case)[:60] for case, _ in WRONG_TEXT])
def test_completions_refuses_and_names_the_field(server: Server, body: dict[str, Any], param: str | None) -> None:
    answer = send(server.url, TEXT, {"max_tokens": 5, **body})
    assert answer[0] == 400, answer
    assert error_of(answer)["param"] == param


@pytest.mark.parametrize("extra", FINE, ids=[str(sorted(extra))[:60] for extra in FINE])
def test_harmless_and_unknown_fields_are_accepted(server: Server, extra: dict[str, Any]) -> None:
    answer = send(server.url, CHAT, {"messages": MESSAGES, "max_tokens": 5, **extra})
    assert answer[0] == 200, answer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b'{"messages": NaN}',
        b'{"messages": [], "temperature": Infinity}',
        b'{"n": 1e400}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
def test_broken_json_is_refused(server: Server, body: bytes) -> None:
    for path in (CHAT, TEXT):
        answer = send(server.url, path, body)
        assert answer[0] == 400 and error_of(answer)["message"], answer


def test_sizes_types_and_routes(server: Server) -> None:
    big = b'{"messages": "' + b"x" * (8 * 2**20) + b'"}'
    answer = send(server.url, CHAT, big)
    assert answer[0] == 413 and error_of(answer)["code"] == "body_too_large"
    nearly = send(server.url, CHAT, b'{"messages": "' + b"x" * (8 * 2**20 - 100) + b'"}')
    assert nearly[0] == 400
    answer = send(server.url, CHAT, b"messages=1", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer[0] == 400 and "application/json" in error_of(answer)["message"]
    for path, method, status in (("/nothing", "GET", 404), (CHAT, "GET", 405), ("/v1/models", "POST", 405)):
        answer = send(server.url, path, method=method)
        assert answer[0] == status and error_of(answer)["message"]
    assert send(server.url, "/v1/models/other")[0] == 404


def json_values() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )


FIELDS = [
    *("messages", "prompt", "temperature", "top_p", "top_k", "min_p", "n", "seed", "stop", "stop_token_ids", "echo"),
    *("max_tokens", "max_completion_tokens", "min_tokens", "ignore_eos", "logprobs", "top_logprobs", "stream"),
    *("stream_options", "user", "model", "tools", "response_format", "logit_bias", "best_of", "suffix"),
]


@pytest.mark.parametrize("count", [40, pytest.param(120, marks=pytest.mark.slow)])
def test_no_request_is_a_server_error(server: Server, count: int) -> None:
    @settings(max_examples=count, deadline=None)
    @given(
        path=st.sampled_from([CHAT, TEXT]), changes=st.dictionaries(st.sampled_from(FIELDS), json_values(), max_size=3)
    )
    def probe(path: str, changes: dict[str, Any]) -> None:
        body = {"messages": MESSAGES, "prompt": "a", "max_tokens": 2, **changes}
        answer = send(server.url, path, json.dumps(body).encode("utf-8", "replace"))
        assert answer[0] < 500, answer
        if answer[0] >= 400:
            error_of(answer)

    probe()


def test_a_running_stream_is_not_disturbed(server: Server, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=0, stream=True, logprobs=True)
    text, values = "", []
    for number, chunk in enumerate(stream):
        text += chunk.choices[0].delta.content or ""
        if chunk.choices[0].logprobs is not None:
            values += [entry.logprob for entry in chunk.choices[0].logprobs.content or []]
        body, _ = WRONG_CHAT[number % len(WRONG_CHAT)]
        assert send(server.url, CHAT, {"messages": MESSAGES, **body})[0] in (200, 400)
    assert text == KOREAN
    assert server.worker is not None and server.worker.alive
    server.worker.engine.check()
    assert server.worker.stats().pages_used == 0
    alone = client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=0, logprobs=True)
    assert alone.choices[0].logprobs is not None
    assert values == pytest.approx([entry.logprob for entry in alone.choices[0].logprobs.content or []], abs=1e-4)
