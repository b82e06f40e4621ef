"""Requests that nobody should send: values and bytes that have broken servers, and random changes to good ones."""

from __future__ import annotations

import json
import random
from typing import Any

from .probe import CHAT, MESSAGES, TEXT

Case = tuple[str, bytes, dict[str, str]]  # path, body, headers

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, 1e-400, float("nan")),
    *(float("inf"), "", "a", "\x00", "\ud800", "𝕏" * 50, "한" * 500, "x" * 5000, "0x41", "null", "../../etc/passwd"),
    *("<|im_end|>", "<|bos|>", "{{ 7 * 7 }}", "${jndi:ldap://x}", "'; DROP TABLE x; --", "\r\nX-A: b", "%s%n%x"),
    *([], [[]], [None], [1, "a"], ["a"] * 300, [0] * 3000, [-1], [2**40], {}, {"a": {}}, {"": ""}),
    *({"$ref": "#"}, {"__class__": "x"}, {"type": "json_schema"}, {"type": "json_object"}, {"5": 1e9}, {"x": "y"}),
    *([{"role": "user", "content": "a"}], [{"role": "tool", "content": None}], [{"type": "function"}]),
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}},
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"pattern": "(a+)+$", "type": "string"}}},
    [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}}],
]
FIELDS = [
    *("messages", "prompt", "temperature", "top_p", "top_k", "min_p", "n", "seed", "stop", "stop_token_ids", "echo"),
    *("max_tokens", "max_completion_tokens", "min_tokens", "ignore_eos", "logprobs", "top_logprobs", "stream", "user"),
    *("stream_options", "model", "tools", "tool_choice", "response_format", "logit_bias", "best_of", "suffix", "input"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "typical_p", "bad_words", "prompt_logprobs"),
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "chat_template"),
    *(
        "chat_template_kwargs",
        "use_beam_search",
        "priority",
        "reasoning_effort",
        "functions",
        "function_call",
        "system",
    ),
    *("thinking", "encoding_format", "dimensions", "tokens", "add_special_tokens", "instructions", "metadata"),
]
PATHS = [
    *(CHAT, TEXT, "/v1/embeddings", "/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/tokenize"),
    *("/detokenize", "/v1/models", "/v1/models/%2e%2e%2f", "/v1/completions/", "//v1//completions", "/admin/reload"),
]
WHOLE = [
    *(b"", b"null", b"[]", b'"text"', b"{", b"}", b"\xff\xfe\x00", b"\x00" * 64, b"\xef\xbb\xbf{}", b"1", b"-", b"NaN"),
    *(
        b"[" * 50_000,
        b'{"a":' * 20_000,
        b'{"prompt": "\xed\xa0\x80"}',
        b'{"prompt": "\xc3\x28"}',
        b'{"prompt": "\\ud83d"}',
    ),
    *(
        b'{"prompt": "a", "prompt": "b", "max_tokens": 1}',
        b'{"max_tokens": 1e999}',
        b"{" + b'"a": 1,' * 20_000 + b'"b": 1}',
    ),
    *(
        b'{"n": ' + b"9" * 5000 + b"}",
        b'{"prompt": "a", "temperature": -Infinity}',
        b"{'prompt': 'a'}",
        b'{"prompt": "a",}',
    ),
    *(b'{"prompt": ' + b'["a",' * 500 + b'"a"' + b"]" * 500 + b"}", b"\x1f\x8b\x08\x00" + b"\x00" * 50),
]
HEADERS: list[dict[str, str]] = [
    *({}, {}, {}, {}, {}, {}, {}, {}),  # most are as they should be
    *(
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "x" * 3000},
    ),
    *({"Content-Encoding": "gzip"}, {"Accept": "text/event-stream"}, {"Accept": "*/*;q=0"}, {"Expect": "100-continue"}),
    *({"Authorization": "Bearer " + "x" * 9000}, {"X-Forwarded-For": "1.1.1.1"}, {"X-Request-Id": "\x7f"}),
    *({f"X-{number}": "y" * 20 for number in range(90)}, {"Origin": "null"}, {"Cookie": "a=" + "b" * 4000}),
]
GOOD: list[dict[str, Any]] = [
    {"messages": MESSAGES, "prompt": "a", "input": "a", "max_tokens": 2},
    {"messages": MESSAGES, "prompt": ["a", "b"], "input": ["a"], "max_tokens": 2, "n": 2, "logprobs": True},
    {"messages": MESSAGES, "prompt": [5, 6], "input": [5, 6], "max_tokens": 2, "stream": True, "seed": 1},
    {"messages": MESSAGES, "prompt": "a", "input": "a", "max_tokens": 2, "stop": ["a"], "temperature": 0.5, "top_k": 5},
]


def cases(count: int, seed: int) -> list[Case]:
    """Return that many cases; the same seed gives the same."""
    rng = random.Random(seed)
    made: list[Case] = [(path, body, {}) for path in PATHS[:2] for body in WHOLE]
    rng.shuffle(made)
    made = made[: count // 3]
    while len(made) < count:
        body = dict(rng.choice(GOOD))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            body[rng.choice(FIELDS)] = _value(rng)
        data = json.dumps(body).encode("utf-8", "surrogatepass")
        if rng.random() < 0.25:
            data = _damaged(data, rng)
        path = rng.choice(PATHS[:2]) if rng.random() < 0.7 else rng.choice(PATHS)
        made.append((path, data, rng.choice(HEADERS)))
    return made


def _value(rng: random.Random) -> Any:
    value = rng.choice(VALUES)
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        value = [value] if rng.random() < 0.5 else {rng.choice(FIELDS): value}
    return value


def _damaged(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[at + rng.randrange(1, 9) :]
        elif kind == 2:
            data = data[:at] + data[at : at + 40] * 3 + data[at:]
        else:
            data = data[:at]
        data = data or b"{"
    return data
