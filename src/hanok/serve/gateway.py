"""The gate between HTTP (one event loop) and the engine (its own thread): bounded, and it always lets go."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Protocol, Self

from hanok.engine.request import Event, Request
from hanok.engine.stats import Stats
from hanok.engine.worker import WorkerClosed
from hanok.serve.errors import ApiError
from hanok.serve.metrics import Metrics
from hanok.serve.served import Served

POLL = 1.0  # seconds between two looks at whether the engine's thread still lives
STALLED = 60.0  # seconds without a step, with work to do, after which the engine does not count as well
REASONS = {
    "loading": "the model is still loading",
    "draining": "the server is shutting down",
    "stalled": "the engine makes no progress",
    "failed": "the engine has stopped; the server must be restarted",
}


class Worker(Protocol):
    """What the gate asks of an engine in its own thread; `engine.worker.EngineWorker` is the one."""

    @property
    def alive(self) -> bool:
        """Whether the thread still steps."""
        ...

    @property
    def idle_seconds(self) -> float:
        """How long ago the last step began, while there is work."""
        ...

    def submit(self, request: Request, on_event: Callable[[Event], None]) -> int:
        """Queue a request; events arrive in the engine's thread."""
        ...

    def abort(self, id: int) -> None:
        """Forget a request and free what it holds."""
        ...

    def stats(self) -> Stats:
        """Return what the engine is doing."""
        ...


class Gateway:
    """Admits what the engine runs at once and `max_queue` choices more; the rest is told to come back later."""

    def __init__(self, *, model_name: str, max_queue: int, metrics_compat: str | None = None) -> None:
        self.model_name = model_name
        self.max_queue = max_queue
        self.metrics = Metrics(model_name, self.stats, compat=metrics_compat)
        self.capacity = 0
        self.inflight = 0
        self.draining = False
        self.failed = False
        self.scoring = asyncio.Lock()
        self.worker: Worker | None = None
        self._served: Served | None = None
        self._pace = 1.0  # seconds that one choice took, smoothed

    def attach(self, worker: Worker, served: Served, *, max_sequences: int) -> None:
        """Open the gate: from now on requests reach this engine."""
        self._served = served
        self.capacity = max_sequences + self.max_queue
        self.worker = worker

    def stats(self) -> Stats | None:
        """Return the engine's counts, or None while there is no engine."""
        return None if self.worker is None else self.worker.stats()

    @property
    def state(self) -> str:
        """`ready`, or the reason why nothing is admitted: `loading`, `draining`, `stalled`, `failed`."""
        if self.failed or (self.worker is not None and not self.worker.alive):
            return "failed"
        if self.worker is None:
            return "loading"
        if self.draining:
            return "draining"
        return "stalled" if self.worker.idle_seconds > STALLED else "ready"

    def check(self) -> Worker:
        """Return the worker, or refuse with 503 and the reason."""
        state = self.state
        if state == "ready" and self.worker is not None:
            return self.worker
        raise ApiError(503, REASONS[state], code=state, headers={"Retry-After": "5"})

    def served(self) -> Served:
        """Return the model, or refuse with 503 and the reason."""
        self.check()
        assert self._served is not None
        return self._served

    def admit(self, size: int) -> Flight:
        """Reserve places for `size` choices, or refuse with 429."""
        self.check()
        if size > self.capacity:
            raise ApiError(400, f"{size} choices in one request, but this server holds {self.capacity}", param="n")
        if self.inflight + size > self.capacity:
            self.metrics.rejected()
            wait = max(1, min(60, round(self._pace)))
            raise ApiError(
                429,
                f"the queue is full ({self.inflight} of {self.capacity} places taken); try again in {wait} s",
                code="queue_full",
                headers={"Retry-After": str(wait)},
            )
        self.inflight += size
        return Flight(self, size)

    def leave(self, size: int, seconds: float) -> None:
        """Take back the places of a flight that is over."""
        self.inflight -= size
        self._pace += 0.1 * (seconds - self._pace)

    async def drained(self, grace: float) -> bool:
        """Admit nothing more and wait until all that was admitted is answered, or `grace` seconds are over."""
        self.draining = True
        deadline = time.monotonic() + grace
        while self.inflight and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return self.inflight == 0


class Flight:
    """Choices on their way through the engine; leaving the `with` block aborts what has not finished."""

    def __init__(self, gateway: Gateway, size: int) -> None:
        self._gateway = gateway
        self._size = size
        self._born = time.monotonic()
        self._ids: dict[int, int] = {}
        self._queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def launch(self, requests: Sequence[Request]) -> None:
        """Hand the requests to the engine."""
        assert len(requests) == self._size and not self._ids
        worker = self._gateway.check()
        loop = asyncio.get_running_loop()
        for index, request in enumerate(requests):
            try:
                self._ids[index] = worker.submit(request, partial(self._hear, loop, index))
            except WorkerClosed:
                raise ApiError(503, REASONS["draining"], code="draining") from None

    def _hear(self, loop: asyncio.AbstractEventLoop, index: int, event: Event) -> None:
        """Carry an event from the engine's thread into the loop; a loop that has closed hears nothing any more."""
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._queue.put_nowait, (index, event))

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Yield (choice, event) in the order of arrival until every choice has finished."""
        clocks = {index: Clock(self._gateway.metrics, self._born) for index in self._ids}
        while self._ids:
            index, event = await self._next()
            clocks[index].tick(event)
            if event.finish_reason is not None:
                del self._ids[index]
                if event.finish_reason == "abort":
                    raise ApiError(503, "the answer was cut short: the server is shutting down", code="aborted")
                if event.finish_reason == "error":
                    raise ApiError(500, "the engine failed on this request; the server's log has the details")
            yield index, event

    async def _next(self) -> tuple[int, Event]:
        while True:
            try:
                # Not wait_for, which in Python 3.11 can swallow the cancellation that a disconnect brings.
                async with asyncio.timeout(POLL):
                    return await self._queue.get()
            except TimeoutError:
                if self._gateway.state == "failed":
                    raise ApiError(503, REASONS["failed"], code="failed") from None

    def close(self) -> None:
        """Abort what is unfinished and give the places back; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._gateway.leave(self._size, time.monotonic() - self._born)
        worker = self._gateway.worker
        for id in self._ids.values():
            if worker is not None:
                worker.abort(id)
            self._gateway.metrics.aborted()
        self._ids.clear()


class Clock:
    """Measures one choice: time to the first token, between tokens, and until the end."""

    def __init__(self, metrics: Metrics, born: float) -> None:
        self._metrics = metrics
        self._born = born
        self._first: float | None = None
        self._last = born

    def tick(self, event: Event) -> None:
        """Take note of an event's arrival."""
        now = time.monotonic()
        if event.tokens:
            if self._first is None:
                self._first = now
                self._metrics.first_token(now - self._born)
            else:
                self._metrics.next_tokens((now - self._last) / len(event.tokens), len(event.tokens))
            self._last = now
        if event.output is not None:
            decode = now - (self._first or now)
            self._metrics.finished(event.output, seconds=now - self._born, decode=decode)
