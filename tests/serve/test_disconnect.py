"""A client that leaves takes its work with it, whatever it was waiting for."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hanok.engine.local import LLM
from hanok.serve import Server, stream

from .wire import open_request, send

LONG = {"max_tokens": 200, "ignore_eos": True, "temperature": 1.0}
CHAT = {**LONG, "messages": [{"role": "user", "content": "한옥이 뭐야?"}]}
SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/chat/completions", {**CHAT, "n": 3}),
    ("/v1/chat/completions", {**CHAT, "n": 3, "stream": True, "logprobs": True, "top_logprobs": 3}),
    ("/v1/completions", {**LONG, "prompt": ["a", "b"], "echo": True, "logprobs": 2}),
    ("/v1/completions", {**LONG, "prompt": "a", "stream": True}),
]


@pytest.fixture(scope="module")
def small(llm: LLM) -> Iterator[Server]:
    """A server that runs four at a time, so that many of the requests are still queued when they are left."""
    with Server(llm, port=0, model_name="tiny", max_queue=400, engine={"max_sequences": 4}) as running:
        yield running


def idle(server: Server, seconds: float) -> bool:
    """Say whether within `seconds` nothing is running, waiting, admitted or held."""
    assert server.worker is not None
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        stats = server.worker.stats()
        if not (stats.running or stats.waiting or stats.pages_used or server.app.state.gateway.inflight):
            server.worker.engine.check()
            return True
        time.sleep(0.005)
    return False


@pytest.mark.parametrize("count", [120, pytest.param(1000, marks=pytest.mark.slow)])
def test_disconnects_at_random_moments_leave_nothing(small: Server, count: int) -> None:
    rng = random.Random(5)
    open_links = []
    for number in range(count):
        open_links.append(open_request(small.url, *SHAPES[number % len(SHAPES)]))
        time.sleep(rng.random() * 0.01)
        while open_links and rng.random() < 0.5:
            open_links.pop(rng.randrange(len(open_links))).close()
    for link in open_links:
        link.close()
    assert idle(small, 3.0), small.worker and small.worker.stats()
    assert send(small.url, "/v1/chat/completions", {**CHAT, "max_tokens": 2})[0] == 200


@pytest.mark.parametrize("streamed", [False, True])
def test_leaving_stops_the_work_and_without_the_guard_it_goes_on(
    small: Server, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tokens_after_leaving() -> int:
        assert small.worker is not None and idle(small, 5.0)
        before = small.worker.stats().generated_tokens
        link = open_request(small.url, "/v1/chat/completions", {**CHAT, "stream": streamed})
        while small.worker.stats().generated_tokens < before + 3:
            time.sleep(0.001)
        link.close()
        assert idle(small, 5.0)
        return small.worker.stats().generated_tokens - before

    guarded = max(tokens_after_leaving() for _ in range(8))

    async def deaf(receive: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(stream, "gone", deaf)
    unguarded = tokens_after_leaving()
    assert guarded < 150 < unguarded == 200, (guarded, unguarded)
