"""The gate between HTTP (one event loop) and the engine (its own thread): bounded, and it always lets go."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from functools import partial
from typing import Any, Protocol, Self

from hanok.core.errors import UsageError
from hanok.engine.request import Event, Request
from hanok.engine.stats import Stats
from hanok.engine.worker import WorkerClosed
from hanok.serve.errors import ApiError
from hanok.serve.metrics import Metrics
from hanok.serve.served import Served

POLL = 1.0  # seconds between two looks at whether the engine's thread still lives
STALLED = 30.0  # seconds without a step, with work to do, after which the engine does not count as well
FIRST = 300.0  # seconds that the first step may take, of which nobody knows how long it should: a large model's prompt
SUSPECT = 5.0  # seconds after which it does not count as ready, unless its steps are known to be long
LONGER = 20.0  # times the longest step lately is as long as a step may take without suspicion
BEHIND = 4096  # events per choice that a client may be behind its answer before the answer is given up
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

    @property
    def slowest(self) -> float:
        """How long the longest step lately took, in seconds."""
        ...

    def submit(self, request: Request, on_event: Callable[[Event], None], group: object = None) -> int:
        """Queue a request, in turns with those of other groups; events arrive in the engine's thread."""
        ...

    def abort(self, id: int) -> None:
        """Forget a request and free what it holds."""
        ...

    def stats(self) -> Stats:
        """Return what the engine is doing."""
        ...

    def close(self) -> None:
        """End the thread; what still runs gets a last event."""
        ...


class Post:
    """Carries events from the engine's thread into the loop: one wake-up brings all that came since the last.

    A step of 32 answers would otherwise wake the loop 32 times, each at the price of a system call.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._events: list[tuple[Flight, int, Event]] = []
        self._lock = threading.Lock()

    def put(self, flight: Flight, index: int, event: Event) -> None:
        """Leave an event for its flight, from any thread; a loop that has closed hears nothing any more."""
        with self._lock:
            self._events.append((flight, index, event))
            waiting = len(self._events) > 1
        if not waiting:
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            events, self._events = self._events, []
        for flight, index, event in events:
            flight.take(index, event)


class Station:
    """One loaded model with the engine that runs it; a request stays with the one that it began on."""

    def __init__(self, worker: Worker, served: Served, max_sequences: int) -> None:
        self.worker, self.served, self.max_sequences = worker, served, max_sequences
        self._flights = 0
        self._retired = False
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Count a flight in; False where a newer model has taken over and this engine is closed."""
        with self._lock:
            self._flights += not (self._retired and not self._flights)
            return self._flights > 0

    def leave(self) -> None:
        """Count a flight out; the last one of a retired model closes the engine."""
        with self._lock:
            self._flights -= 1
            over = self._retired and not self._flights
        if over:
            self._shut()

    def retire(self) -> None:
        """Let running answers end, then close the engine; new ones go to the model that took over."""
        with self._lock:
            self._retired = True
            over = not self._flights
        if over:
            self._shut()

    def _shut(self) -> None:
        threading.Thread(target=self.worker.close, name="hanok-retired", daemon=True).start()


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
        self._post: Post | None = None
        self._station: Station | None = None
        self._before: list[Station] = []  # models that were replaced and may still have answers to end
        self._pace = 1.0  # seconds that one choice took, smoothed

    def attach(self, worker: Worker, served: Served, *, max_sequences: int) -> None:
        """Open the gate: from now on requests reach this engine; what runs on an earlier one ends there."""
        earlier, self._station = self._station, Station(worker, served, max_sequences)
        self.capacity = max_sequences + self.max_queue
        if earlier is not None:
            self._before = [*(station for station in self._before if station.worker.alive), earlier]
            earlier.retire()

    @property
    def worker(self) -> Worker | None:
        """The engine that new requests reach, None while there is none."""
        return None if self._station is None else self._station.worker

    def post_to(self, loop: asyncio.AbstractEventLoop) -> Post:
        """Return what carries events into a loop."""
        if self._post is None or self._post.loop is not loop:
            self._post = Post(loop)
        return self._post

    def close(self) -> None:
        """Close the engines, whatever still runs."""
        for station in (*self._before, *([self._station] if self._station else [])):
            station.worker.close()

    def stats(self) -> Stats | None:
        """Return the engine's counts, or None while there is no engine."""
        return None if self.worker is None else self.worker.stats()

    @property
    def state(self) -> str:
        """`ready`, or the reason why nothing is admitted: `loading`, `draining`, `stalled`, `failed`."""
        worker = self.worker
        if self.failed or (worker is not None and not worker.alive):
            return "failed"
        if worker is None:
            return "loading"
        if self.draining:
            return "draining"
        return "stalled" if _late(worker, STALLED if worker.slowest else FIRST) else "ready"

    @property
    def health(self) -> str:
        """What to tell who routes requests: like `state`, but a step that takes strangely long shows sooner."""
        state, worker = self.state, self.worker
        if state == "ready" and worker is not None and worker.slowest:  # the first step may take any time
            return "stalled" if _late(worker, SUSPECT) else state
        return state

    def check(self) -> Station:
        """Return the model and its engine, or refuse with 503 and the reason."""
        state = self.state
        if state == "ready" and self._station is not None:
            return self._station
        raise ApiError(503, REASONS[state], code=state, headers={"Retry-After": "5"})

    def served(self) -> Served:
        """Return the model, or refuse with 503 and the reason."""
        return self.check().served

    def admit(self, size: int, note: MutableMapping[str, Any] | None = None) -> Flight:
        """Reserve places for `size` choices, or refuse with 429; `note` is told how many tokens there were."""
        station = self.check()
        while not station.enter():  # it was replaced this moment
            station = self.check()
        try:
            self._reserve(size)
        except ApiError:
            station.leave()
            raise
        return Flight(self, station, size, note)

    def _reserve(self, size: int) -> None:
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

    def __init__(
        self, gateway: Gateway, station: Station, size: int, note: MutableMapping[str, Any] | None = None
    ) -> None:
        self._gateway = gateway
        self._station = station
        self._size = size
        self._note = {} if note is None else note
        self._born = time.monotonic()
        self._ids: dict[int, int] = {}
        self._queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._closed = self._late = False

    @property
    def served(self) -> Served:
        """The model that these choices are for."""
        return self._station.served

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def launch(self, requests: Sequence[Request], loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Hand the requests to the engine, whose events arrive in the loop (by default the one that runs here)."""
        assert len(requests) == self._size and not self._ids
        worker = self._station.worker
        post = self._gateway.post_to(loop or asyncio.get_running_loop())
        for index, request in enumerate(requests):
            group = request.salt or self  # a key's requests, or the choices of this one
            try:
                self._ids[index] = worker.submit(request, partial(post.put, self, index), group)
            except WorkerClosed:
                raise ApiError(503, REASONS["draining"], code="draining") from None

    def take(self, index: int, event: Event) -> None:
        """Queue an event; a client too far behind its answer is not waited for, so that nothing piles up."""
        if self._late or self._queue.qsize() < BEHIND * self._size or event.finish_reason is not None:
            self._queue.put_nowait((index, event))
            return
        self._late = True
        for id in self._ids.values():
            self._station.worker.abort(id)

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Yield (choice, event) in the order of arrival until every choice has finished."""
        clocks = {index: Clock(self._gateway.metrics, self._born) for index in self._ids}
        while self._ids:
            index, event = await self._next()
            clocks[index].tick(event)
            if event.finish_reason is not None:
                del self._ids[index]
                self._tell(event)
                if event.finish_reason == "abort" and self._late:
                    raise ApiError(503, "the answer was cut short: it was read too slowly", code="aborted")
                if event.finish_reason == "abort":
                    raise ApiError(503, "the answer was cut short: the server is shutting down", code="aborted")
                if isinstance(event.error, UsageError):
                    raise ApiError.usage(event.error)
                if event.finish_reason == "error":
                    raise ApiError(500, "the engine failed on this request; the server's log has the details")
            yield index, event

    def _tell(self, event: Event) -> None:
        """Write the tokens of an answer into the note that the request's log line is made of."""
        if event.output is not None:
            self._note["prompt_tokens"] = event.output.prompt_tokens
            self._note["completion_tokens"] = self._note.get("completion_tokens", 0) + len(event.output.tokens)

    async def _next(self) -> tuple[int, Event]:
        while True:
            try:
                # Not wait_for, which in Python 3.11 can swallow the cancellation that a disconnect brings.
                async with asyncio.timeout(POLL):
                    return await self._queue.get()
            except TimeoutError:
                if not self._station.worker.alive:
                    raise ApiError(503, REASONS["failed"], code="failed") from None

    def close(self) -> None:
        """Abort what is unfinished and give the places back; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._gateway.leave(self._size, time.monotonic() - self._born)
        for id in self._ids.values():
            self._station.worker.abort(id)
            self._gateway.metrics.aborted()
        self._ids.clear()
        self._station.leave()


def _late(worker: Worker, least: float) -> bool:
    """Say whether a step takes longer than `least` seconds, and than what steps lately let expect."""
    return worker.idle_seconds > max(least, LONGER * worker.slowest)


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
