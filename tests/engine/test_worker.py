"""The worker thread: many callers at once, disconnects, failures, idleness, shutdown."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hanok.core.errors import UsageError
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Event, Output, Request
from hanok.engine.worker import EngineWorker, WorkerClosed


class Ear:
    """Collects one request's events and says when the last has come."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.done = threading.Event()

    def __call__(self, event: Event) -> None:
        assert not self.done.is_set(), "an event after the last"
        self.events.append(event)
        if event.finish_reason is not None:
            self.done.set()

    def output(self) -> Output:
        assert self.done.wait(30)
        output = self.events[-1].output
        assert output is not None
        return output


@pytest.fixture
def worker(build: Callable[..., LLM]) -> Iterator[EngineWorker]:
    with EngineWorker(Engine(build("gqa"), num_pages=40, page_size=8)) as worker:
        yield worker
    assert not worker.alive


def quiet(worker: EngineWorker) -> None:
    """Wait until nothing is left, and see that nothing is held."""
    deadline = time.monotonic() + 20
    while worker.engine.has_work or worker.stats().waiting:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    worker.engine.check()
    assert worker.stats().pages_used == 0


def test_same_outputs_as_alone_from_many_threads(worker: EngineWorker, build: Callable[..., LLM]) -> None:
    requests = [Request([i + 1, 2], 12, temperature=1.0, seed=i) for i in range(24)]
    ears = [Ear() for _ in requests]
    threads = [threading.Thread(target=worker.submit, args=pair) for pair in zip(requests, ears, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ear.output() for ear in ears] == Engine(build("gqa")).generate(requests)
    quiet(worker)


def test_disconnects_at_random_free_everything(worker: EngineWorker) -> None:
    rng, ears = random.Random(0), []
    for i in range(120):
        ear = Ear()
        id = worker.submit(Request([1] * rng.randrange(1, 60), 40, seed=i), ear)
        ears.append(ear)
        if rng.random() < 0.7:
            threading.Timer(rng.random() * 0.05, worker.abort, args=(id,)).start()
    assert {ear.output().finish_reason for ear in ears} <= {"abort", "length"}
    assert any(ear.output().finish_reason == "abort" for ear in ears)
    worker.abort(10**9)  # unknown: nothing happens
    quiet(worker)


def test_a_failing_step_is_told_and_the_rest_goes_on(worker: EngineWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(worker.engine.llm.model, "hidden", lambda *_: 1 / 0)
        ear = Ear()
        worker.submit(Request([1], 3), ear)
        assert ear.output().finish_reason == "error"
        assert isinstance(ear.events[-1].error, ZeroDivisionError)
    quiet(worker)
    worker.submit(Request([1], 3), ear := Ear())
    assert len(ear.output().tokens) == 3


def test_a_failure_around_the_step_is_survived(
    worker: EngineWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(worker.engine.scheduler, "plan", lambda: 1 / 0)
        worker.submit(Request([1], 3), ear := Ear())
        assert ear.output().finish_reason == "error" and ear.events[-1].error is not None
    assert "step failed" in caplog.text
    worker.submit(Request([1], 3), ear := Ear())
    assert len(ear.output().tokens) == 3
    quiet(worker)


def test_a_listener_that_fails_loses_only_its_own(worker: EngineWorker, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("gone")

    worker.submit(Request([1], 50), broken)
    worker.submit(Request([1], 10, seed=0), ear := Ear())
    assert len(ear.output().tokens) == 10
    quiet(worker)
    assert "listener failed" in caplog.text


def test_bad_requests_raise_where_they_are_submitted(worker: EngineWorker) -> None:
    with pytest.raises(UsageError, match="vocabulary"):
        worker.submit(Request([10**6]), Ear())
    quiet(worker)


def test_idle_costs_nothing(worker: EngineWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    step = worker.engine.step
    monkeypatch.setattr(worker.engine, "step", lambda **how: steps.append(1) or step(**how))
    time.sleep(0.15)
    assert not steps and worker.idle_seconds == 0.0
    worker.submit(Request([1], 2), ear := Ear())
    ear.output()
    quiet(worker)
    count = len(steps)
    time.sleep(0.1)
    assert len(steps) == count


def test_the_first_request_after_a_long_idle_time_is_not_late(worker: EngineWorker) -> None:
    worker._beat -= 1000.0  # when the loop last had work
    with worker._wake:  # the loop has not woken yet
        worker.submit(Request([5, 6, 7], max_tokens=1), lambda event: None)
        assert worker.idle_seconds < 100
        worker._beat -= 1000.0  # control: now it is late, and one more request does not hide that
        worker.submit(Request([5, 6, 7], max_tokens=1), lambda event: None)
        assert worker.idle_seconds >= 1000


def test_close_ends_what_is_left(build: Callable[..., LLM]) -> None:
    worker = EngineWorker(Engine(build("gqa")))
    ears = [Ear() for _ in range(5)]
    for ear in ears:
        worker.submit(Request([1] * 100, 100), ear)
    worker.close()
    assert not worker.alive
    assert all(ear.output().finish_reason == "abort" for ear in ears)
    assert worker.engine.stats().pages_used == 0
    with pytest.raises(WorkerClosed):
        worker.submit(Request([1]), Ear())
    worker.abort(0)
    worker.close()


def test_stats_count_what_is_not_taken_in(worker: EngineWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, inside = threading.Event(), threading.Event()
    step = worker.engine.step

    def slow(**how: bool) -> Any:
        inside.set()
        gate.wait(10)
        return step(**how)

    monkeypatch.setattr(worker.engine, "step", slow)
    ears = [Ear() for _ in range(4)]
    worker.submit(Request([1], 2), ears[0])
    inside.wait(10)
    for ear in ears[1:]:
        worker.submit(Request([1], 2), ear)
    assert worker.stats().waiting + worker.stats().running >= 4
    assert worker.idle_seconds >= 0
    gate.set()
    for ear in ears:
        ear.output()
