"""S8: caps, both edges: the largest value that is taken, and the smallest that is refused, by name."""

from __future__ import annotations

import contextlib
import gzip
from typing import Any

import pytest

from hanok.engine.local import LLM
from hanok.serve import Server, length
from hanok.serve.errors import ApiError
from hanok.text.tokenizer import Tokenizer

from .probe import CHAT, MESSAGES, TEXT, error_of, send

SHORT = {"max_tokens": 1}
BIG = 2**63
# field, path, values that are taken, values that are refused
CAPS: list[tuple[str, str, list[Any], list[Any]]] = [
    ("n", TEXT, [1, 128], [0, -1, 129, 10**6, BIG, -BIG, 1.5, True, "1"]),
    ("logprobs", TEXT, [0, 20], [-1, 21, 10**6, BIG, 1.5]),
    ("top_logprobs", CHAT, [0, 20], [-1, 21, BIG, 0.5]),
    ("temperature", TEXT, [0, 2, 0.5, 1e-300], [-1e-9, 2.0001, BIG, 10**400, "1", [1]]),
    ("top_p", TEXT, [1e-9, 1], [0, -1, 1.0001, BIG]),
    ("min_p", TEXT, [0, 1], [-0.1, 1.1, BIG]),
    ("top_k", TEXT, [-1, 0, 2**31 - 1], [-2, 2**31, BIG, 1.5]),
    ("seed", TEXT, [0, -(2**63), 2**63 - 1], [2**63, -(2**63) - 1, 10**400, 0.5, "x"]),
    ("stop", TEXT, ["x", "x" * 256, ["x"] * 16, []], ["", "x" * 257, ["x"] * 17, [""], [1], {"a": 1}]),
    ("stop_token_ids", TEXT, [[], [5], [5] * 16], [[-1], [5] * 17, [BIG], [2**31], ["a"], 5]),
    ("max_tokens", TEXT, [1, 500], [0, -1, 513, 2**31 - 1, 2**31, BIG, -BIG, 10**400, 1.5, "9"]),
    ("max_completion_tokens", CHAT, [1, 400], [0, -1, 513, 2**31, BIG]),
    ("min_tokens", TEXT, [0, 1], [2, -1, BIG]),
    ("user", TEXT, ["", "u" * 1024], ["u" * 1025, 5]),
    ("presence_penalty", TEXT, [0], [2.01, -2.01, BIG, "1"]),
    ("frequency_penalty", TEXT, [0], [2.01, -2.01, BIG]),
    ("repetition_penalty", TEXT, [1], [0, -1, BIG]),
    ("logit_bias", TEXT, [{}], [{str(id): 1 for id in range(1025)}, {"5": 101}, {"x": 1}, {"-1": 1}, {str(BIG): 1}, 5]),
    (
        "prompt",
        TEXT,
        ["a", [5], [[5], [6]], ["a"] * 4],
        [None, [], [[]], [-1], [BIG], [300], ["a"] * 257, [1, "a"], {}],
    ),
    ("messages", CHAT, [MESSAGES, MESSAGES * 8], [None, [], "x", [{}], MESSAGES * 4097, [MESSAGES]]),
    ("best_of", TEXT, [1], [0, -1, 129, BIG]),
    ("stream", TEXT, [False, None], ["yes", 2, []]),
    ("model", TEXT, ["tiny", None, ""], ["other", "m" * 513, 5]),
]
EDGES = [(field, path, value, True) for field, path, taken, _ in CAPS for value in taken]
EDGES += [(field, path, value, False) for field, path, _, refused in CAPS for value in refused]


def test_every_edge(server: Server) -> None:
    wrong = []
    for field, path, value, fine in EDGES:
        base = {**SHORT, "messages": MESSAGES} if path == CHAT else {**SHORT, "prompt": "a"}
        base |= {"logprobs": True} if field == "top_logprobs" else {}
        base |= {"max_tokens": None} if field == "max_completion_tokens" else {}
        base |= {"n": 1} if field != "n" else {}
        answer = send(server.url, path, {**base, field: value})
        named = answer[0] == 200 or field in str(error_of(answer)["param"]) + error_of(answer)["message"]
        if (answer[0] == 200) != fine or not named or answer[0] >= 500:
            wrong.append((field, str(value)[:60], fine, answer[0], answer[2][:160]))
    assert not wrong, wrong


@pytest.mark.parametrize("depth", [30, 60])
def test_what_is_ignored_may_be_nested_a_little(server: Server, depth: int) -> None:
    body = b'{"prompt": "a", "max_tokens": 1, "metadata": ' + b"[" * depth + b"]" * depth + b"}"
    assert send(server.url, TEXT, body)[0] == 200


@pytest.mark.parametrize("depth", [250, 100_000])
def test_deep_nesting_is_refused(server: Server, depth: int) -> None:
    body = b'{"prompt": "a", "max_tokens": 1, "metadata": ' + b"[" * depth + b"]" * depth + b"}"
    assert send(server.url, TEXT, body)[0] == 400


@pytest.mark.parametrize("size", [8 * 2**20, 8 * 2**20 + 1])
def test_a_body_of_eight_megabytes_is_read_and_one_byte_more_is_not(server: Server, size: int) -> None:
    head, tail = b'{"max_tokens": 1, "prompt": "', b'"}'
    answer = send(server.url, TEXT, head + b"a" * (size - len(head) - len(tail)) + tail)
    assert answer[0] == (400 if size <= 8 * 2**20 else 413)  # 400: the context is too small for that
    assert error_of(answer)["message"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_compressed_bodies_are_refused_and_never_unpacked(server: Server, encoding: str) -> None:
    bomb = gzip.compress(b'{"prompt": "' + b"a" * 4_000_000 + b'", "max_tokens": 1}')
    assert len(bomb) < 10_000
    answer = send(server.url, TEXT, bomb, headers={"Content-Encoding": encoding})
    assert answer[0] in (400, 415), answer


def test_headers_are_bounded(server: Server) -> None:
    assert send(server.url, "/health", headers={"X-Long": "x" * 30_000})[0] == 200
    assert send(server.url, "/health", headers={f"X-{number}": "y" for number in range(90)})[0] == 200
    for headers in ({"X-Long": "x" * 100_000}, {f"X-{number}": "y" * 50 for number in range(3000)}):
        with contextlib.suppress(ConnectionError):  # it may hang up in the middle
            assert send(server.url, "/health", headers=headers)[0] in (400, 431)


def test_a_text_far_beyond_the_context_is_not_tokenised_whole(
    server: Server, llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    encode = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, text: (seen.append(len(text)), encode(self, text))[1])
    long = "a" * 400_000
    for path, body in (
        (TEXT, {"prompt": long}),
        (TEXT, {"prompt": ["a", long]}),
        (CHAT, {"messages": [{"role": "user", "content": long}]}),
        (CHAT, {"messages": [{"role": "user", "content": long[:1000]}] * 400}),
    ):
        answer = send(server.url, path, {**body, **SHORT})
        assert answer[0] == 400 and error_of(answer)["code"] == "context_length_exceeded"
    assert max(seen) <= 2 * length.SHORT
    seen.clear()
    monkeypatch.setattr(length, "SHORT", 2**40)
    assert send(server.url, TEXT, {"prompt": long, **SHORT})[0] == 400
    assert max(seen) == len(long), "the control: without the look ahead all of it is tokenised"


def test_a_long_text_that_fits_is_taken(llm: LLM) -> None:
    class Coarse:
        def encode(self, text: str) -> list[int]:
            return [5] * (len(text) // 1000)

    length.check_length(Coarse(), ["a" * 1_000_000], 1000, param="prompt")  # type: ignore[arg-type]
    with pytest.raises(ApiError, match="far more"):
        length.check_length(Coarse(), ["a" * 3_000_000], 1000, param="prompt")  # type: ignore[arg-type]
