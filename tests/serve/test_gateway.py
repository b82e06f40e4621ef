"""The gate with a scripted engine behind it: what happens when the engine dies, fails or says no."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from hanok.engine.request import Event, Output, Request
from hanok.engine.stats import Stats
from hanok.engine.worker import WorkerClosed
from hanok.serve import gateway as gate
from hanok.serve.errors import ApiError
from hanok.serve.gateway import Flight, Gateway
from hanok.serve.served import Served

REQUEST = Request([1], 4)


class Scripted:
    """A worker that does nothing by itself: the test plays its events."""

    def __init__(self) -> None:
        self.alive = True
        self.idle_seconds = self.slowest = 0.0
        self.closed = False
        self.aborted: list[int] = []
        self.listeners: list[Callable[[Event], None]] = []
        self.groups: list[object] = []

    def submit(self, request: Request, on_event: Callable[[Event], None], group: object = None) -> int:
        if self.closed:
            raise WorkerClosed("closed")
        self.listeners.append(on_event)
        self.groups.append(group)
        return len(self.listeners) - 1

    def abort(self, id: int) -> None:
        self.aborted.append(id)

    def stats(self) -> Stats:
        return Stats(len(self.listeners), 0, 1, 4, 10, 20, 30, 1, 0, 0)

    def say(self, id: int, tokens: list[int], reason: str | None = None) -> None:
        output = None
        if reason is not None:
            output = Output(tokens, None, "", reason, 1, [1])  # type: ignore[arg-type]
        self.listeners[id](Event(id, "x", tokens, None, None, reason, output))  # type: ignore[arg-type]


def made(worker: Scripted, *, max_queue: int = 0, max_sequences: int = 2) -> Gateway:
    gateway = Gateway(model_name="scripted", max_queue=max_queue)
    gateway.attach(worker, cast(Served, None), max_sequences=max_sequences)
    return gateway


def test_a_key_or_else_a_request_takes_turns() -> None:
    async def run() -> None:
        worker = Scripted()
        gateway = made(worker, max_sequences=8)
        keyed = Request([1], 3, salt="a digest of a key")
        for requests in ([REQUEST, REQUEST], [REQUEST], [keyed], [keyed, keyed]):
            gateway.admit(len(requests)).launch(requests)
        one, same, other, *key = worker.groups
        assert one is same and one is not other
        assert key == ["a digest of a key"] * 3

    asyncio.run(run())


async def listen(flight: Flight) -> list[tuple[int, list[int]]]:
    return [(index, event.tokens) async for index, event in flight.events()]


def test_events_of_all_choices_arrive_in_order_and_places_come_back() -> None:
    async def run() -> None:
        worker = Scripted()
        gateway = made(worker)
        with gateway.admit(2) as flight:
            flight.launch([REQUEST, REQUEST])
            worker.say(1, [5])
            worker.say(0, [6], "stop")
            worker.say(1, [7], "length")
            assert await listen(flight) == [(1, [5]), (0, [6]), (1, [7])]
            assert gateway.inflight == 2
        assert gateway.inflight == 0 and worker.aborted == []

    asyncio.run(run())


def test_leaving_early_aborts_what_is_unfinished() -> None:
    async def run() -> None:
        worker = Scripted()
        gateway = made(worker)
        with gateway.admit(2) as flight:
            flight.launch([REQUEST, REQUEST])
            worker.say(0, [5], "stop")
            assert [await anext(flight.events())] and not worker.aborted
        flight.close()
        assert worker.aborted == [1] and gateway.inflight == 0

    asyncio.run(run())


def test_full_means_429_with_a_time_to_wait() -> None:
    gateway = made(Scripted(), max_queue=1)
    flights = [gateway.admit(1) for _ in range(3)]
    with pytest.raises(ApiError) as refused:
        gateway.admit(1)
    assert refused.value.status == 429 and refused.value.headers["Retry-After"]
    flights[0].close()
    gateway.admit(1)


@pytest.mark.parametrize(("reason", "status"), [("abort", 503), ("error", 500)])
def test_an_answer_that_the_engine_gives_up_is_an_error(reason: str, status: int) -> None:
    async def run() -> None:
        worker = Scripted()
        with made(worker).admit(1) as flight:
            flight.launch([REQUEST])
            worker.say(0, [5])
            worker.say(0, [], reason)
            with pytest.raises(ApiError) as failed:
                await listen(flight)
            assert failed.value.status == status

    asyncio.run(run())


def test_a_dead_engine_ends_waiting_answers_and_admits_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "POLL", 0.02)

    async def run() -> None:
        worker = Scripted()
        gateway = made(worker)
        with gateway.admit(1) as flight:
            flight.launch([REQUEST])
            asyncio.get_running_loop().call_later(0.05, setattr, worker, "alive", False)
            with pytest.raises(ApiError) as failed:
                await asyncio.wait_for(listen(flight), 2)
            assert failed.value.status == 503
        with pytest.raises(ApiError) as refused:
            gateway.admit(1)
        assert refused.value.status == 503 and gateway.state == "failed"

    asyncio.run(run())


def test_states() -> None:
    worker = Scripted()
    gateway = Gateway(model_name="scripted", max_queue=1)
    assert gateway.state == "loading"
    gateway.attach(worker, cast(Served, None), max_sequences=1)
    assert gateway.state == "ready"
    worker.idle_seconds = gate.STALLED + 1
    assert gateway.state == "ready", "nobody knows how long a first step takes"
    worker.slowest = 0.1
    assert gateway.state == "stalled"
    worker.slowest = 0.1 * gate.STALLED
    assert gateway.state == "ready", "steps are long here"
    worker.slowest, worker.idle_seconds = 0.0, gate.FIRST + 1
    assert gateway.state == "stalled"
    worker.idle_seconds, gateway.draining = 0.0, True
    assert gateway.state == "draining"


def test_a_closed_worker_is_a_shutdown_not_a_bug() -> None:
    async def run() -> None:
        worker = Scripted()
        gateway = made(worker)
        worker.closed = True
        with pytest.raises(ApiError) as refused, gateway.admit(1) as flight:
            flight.launch([REQUEST])
        assert refused.value.status == 503 and gateway.inflight == 0

    asyncio.run(run())


def test_events_after_the_loop_has_closed_are_dropped() -> None:
    worker = Scripted()

    async def run() -> None:
        made(worker).admit(1).launch([REQUEST])

    asyncio.run(run())
    worker.say(0, [5], "stop")
