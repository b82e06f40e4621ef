"""An engine in a thread of its own: other threads submit and abort, events come back through a callback."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from hanok.core.errors import HanokError
from hanok.engine.engine import Engine
from hanok.engine.request import Event, Request
from hanok.engine.sequence import Sequence
from hanok.engine.stats import Stats

Listener = Callable[[Event], None]
logger = logging.getLogger(__name__)


class WorkerClosed(HanokError):
    """The worker no longer takes requests."""


class EngineWorker:
    """Steps an engine while there is work and sleeps while there is none.

    `submit` checks the request in the caller's thread and returns its id; `on_event` is then called from the worker's
    thread for each event, the last of which has a finish reason ("error" if a step failed: the others go on).
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._wake = threading.Condition()
        self._inbox: deque[Sequence | int] = deque()  # new sequences, and ids to abort, in the order they came
        self._listeners: dict[int, Listener] = {}
        self._closing = False
        self._again = False  # nothing has come since the last step
        self._beat = time.monotonic()
        self.slowest = 0.0  # seconds of the longest step lately
        self._thread = threading.Thread(target=self._run, name="hanok-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, on_event: Listener, group: object = None) -> int:
        """Queue a request from any thread and return its id; a bad one raises `UsageError` here.

        The requests of one `group` take turns with those of others.
        """
        sequence = self.engine.prepare(request)
        sequence.group = group
        with self._wake:
            if self._closing:
                raise WorkerClosed("the engine is shutting down and takes no more requests")
            self._listeners[sequence.id] = on_event
            self._hand_in(sequence)
        return sequence.id

    def abort(self, id: int) -> None:
        """Stop a request from any thread; its last event says "abort". One that has ended is left alone."""
        with self._wake:
            self._hand_in(id)

    def stats(self) -> Stats:
        """Return the engine's counts, with what is not yet taken in counted as waiting."""
        with self._wake:
            new = sum(isinstance(item, Sequence) for item in self._inbox)
        stats = self.engine.stats()
        return replace(stats, waiting=stats.waiting + new)

    @property
    def alive(self) -> bool:
        """Say whether the thread runs."""
        return self._thread.is_alive()

    @property
    def idle_seconds(self) -> float:
        """Return how long ago the loop last came round with work to do; 0 when there is none."""
        return time.monotonic() - self._beat if self._busy else 0.0

    @property
    def _busy(self) -> bool:
        return self.engine.has_work or bool(self._inbox)

    def _hand_in(self, item: Sequence | int) -> None:
        if not self._busy:  # idle until now: the loop is not late since it last had something to do, but from here on
            self._beat = time.monotonic()
        self._inbox.append(item)
        self._wake.notify()

    def close(self, timeout: float | None = 30.0) -> None:
        """Abort what is left, each with a last event, and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout)

    def __enter__(self) -> EngineWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while self._take_in():
            self._beat = time.monotonic()
            try:
                events = self.engine.step(again=self._again)
            except Exception as error:  # not the model's step but the engine around it: give everything up, stay up
                logger.exception("the engine's step failed")
                events = self._give_up(error)
            self.slowest = max(0.99 * self.slowest, time.monotonic() - self._beat)
            for event in events:
                self._deliver(event)

    def _take_in(self) -> bool:
        """Wait for work, then queue and abort what was asked; return False when it is time to end."""
        with self._wake:
            self._again = not self._inbox and self.engine.has_work
            while not (self._inbox or self._closing or self.engine.has_work):
                self._wake.wait()
            inbox, self._inbox = self._inbox, deque()
            closing = self._closing
        for item in inbox:
            if isinstance(item, Sequence):
                self.engine.enqueue(item)
            else:
                self._abort(item)
        if closing:
            for id in list(self._listeners):
                self._abort(id)
        return not closing

    def _abort(self, id: int) -> None:
        event = self.engine.abort(id)
        if event is not None:
            self._deliver(event)

    def _give_up(self, error: Exception) -> list[Event]:
        ended = [self.engine.fail(id, error) for id in list(self._listeners)]
        return [event for event in ended if event is not None]

    def _deliver(self, event: Event) -> None:
        listener = self._listeners.get(event.id)
        if event.finish_reason is not None:
            self._listeners.pop(event.id, None)
        if listener is None:
            return
        try:
            listener(event)
        except Exception:  # one listener's trouble is not the others'
            logger.exception("a listener failed; its request is dropped")
            self._listeners.pop(event.id, None)
            self.engine.abort(event.id)
