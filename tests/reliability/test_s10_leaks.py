"""S10: after thousands of requests the server holds what it held before."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hanok.serve import Server

from .probe import CHAT, MESSAGES, TEXT, holdings, open_request, resident, send, settle, until

SHAPES: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": MESSAGES, "max_tokens": 4}),
    (CHAT, {"messages": MESSAGES, "max_tokens": 4, "stream": True, "logprobs": True, "top_logprobs": 3}),
    (TEXT, {"prompt": "a b c", "max_tokens": 4, "n": 2, "stop": ["q"]}),
    (TEXT, {"prompt": "a b c", "max_tokens": 4, "echo": True, "logprobs": 2}),
    (TEXT, {"prompt": [[5, 6], [7]], "max_tokens": 4, "stream": True}),
    (TEXT, {"prompt": "a", "max_tokens": -1}),
    ("/v1/models", {}),
]


def mixed(server: Server, count: int, rng: random.Random) -> None:
    """Send that many requests, of which every fifth is left in the middle."""
    for number in range(count):
        path, body = rng.choice(SHAPES)
        if number % 5 == 0:
            open_request(server.url, path, {**body, "max_tokens": 300, "ignore_eos": True}).close()
        elif path == "/v1/models":
            send(server.url, path)
        else:
            assert send(server.url, path, {**body, "prompt": f"{rng.random()}"} if path == TEXT else body)[0] < 500
    settle(server)


@pytest.mark.parametrize("count", [40, pytest.param(10_000, marks=pytest.mark.slow)])
def test_nothing_is_left_over(server: Server, count: int) -> None:
    rng = random.Random(7)
    mixed(server, max(30, count // 10), rng)  # what is built once is built now
    before, memory = holdings(server), [resident()]
    for _ in range(10):
        mixed(server, count // 10, rng)
        memory.append(resident())
    until(lambda: holdings(server)["tasks"] <= before["tasks"], "no task is left over")
    until(lambda: holdings(server)["files"] <= before["files"], "no file is left open")
    assert holdings(server)["threads"] <= before["threads"] + 6, "but for the pool that plans requests"
    worker = server.worker
    assert worker is not None
    # One that was left before its head had been read may be admitted only now, and is let go of at once.
    until(lambda: not worker._listeners and not worker.engine._live, "no listener and no sequence is left over")
    if count >= 10_000 and memory[0] is not None:
        half = memory[len(memory) // 2 :]
        slope = (half[-1] - half[0]) / (count / 1000 / 2) / 2**20  # type: ignore[operator]
        print(f"S10: {memory} bytes, {slope:.2f} MB per 1,000 requests")
        assert slope < 1.0, f"{slope:.2f} MB per 1,000 requests"


def test_control_a_listener_that_is_kept_is_seen(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server.worker is not None
    kept: list[Any] = []
    deliver = type(server.worker)._deliver
    monkeypatch.setattr(type(server.worker), "_deliver", lambda self, event: (kept.append(event), deliver(self, event)))
    mixed(server, 20, random.Random(1))
    assert len(kept) > 20
    server.worker._listeners[-1] = kept.append
    assert server.worker._listeners
    del server.worker._listeners[-1]
