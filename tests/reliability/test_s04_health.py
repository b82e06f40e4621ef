"""S4: readiness is honest: an engine that hangs or has died shows, and its clients are told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.serve import Server, gateway

from .probe import PATIENCE, TEXT, Neighbour, error_of, send, settle, until

PATHS = ("/ready", "/health")


@pytest.fixture
def alone(llm: LLM) -> Iterator[Server]:
    """A server that a test may break."""
    with Server(llm, port=0, model_name="tiny", grace=0.5, engine={"max_sequences": 4}) as running:
        yield running


def held(monkeypatch: pytest.MonkeyPatch, inside: Callable[[], object]) -> None:
    """Have each step of the engine do something first."""
    step = Engine.step

    def slow(self: Engine, **how: bool) -> Any:
        inside()
        return step(self, **how)

    monkeypatch.setattr(Engine, "step", slow)


def test_an_engine_that_hangs_is_not_ready_and_is_again_when_it_goes_on(
    alone: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(gateway, "SUSPECT", 0.3)
    assert [send(alone.url, path)[0] for path in PATHS] == [200, 200]
    send(alone.url, TEXT, {"prompt": "a", "max_tokens": 5})  # now it is known how long a step takes
    held(monkeypatch, lambda: go_on.wait(PATIENCE))
    stream = Neighbour(alone)
    until(lambda: send(alone.url, "/ready")[0] == 503, "the engine counts as stalled")
    assert error_of(send(alone.url, "/ready"))["code"] == "stalled"
    assert send(alone.url, "/live")[0] == 200, "the process itself is well"
    go_on.set()
    assert stream.wait() and stream.done
    settle(alone)
    assert [send(alone.url, path)[0] for path in PATHS] == [200, 200]


def test_control_without_the_clock_a_hung_engine_looks_well(alone: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, inside = threading.Event(), threading.Event()
    monkeypatch.setattr(gateway, "SUSPECT", float("inf"))
    monkeypatch.setattr(gateway, "STALLED", float("inf"))

    def wait() -> None:
        inside.set()
        go_on.wait(PATIENCE)

    held(monkeypatch, wait)
    stream = Neighbour(alone)
    assert inside.wait(PATIENCE)
    assert send(alone.url, "/ready")[0] == 200
    go_on.set()
    stream.wait()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("streamed", [True, False])
def test_a_dead_engine_ends_every_answer_with_an_error(
    alone: Server, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    inside, die = threading.Event(), threading.Event()

    def end() -> None:
        inside.set()
        die.wait(PATIENCE)
        raise SystemExit  # ends the thread, and no handler of exceptions sees it

    held(monkeypatch, end)
    answers: list[Any] = []
    body = {"prompt": "a", "max_tokens": 20, "ignore_eos": True}
    if streamed:
        stream = Neighbour(alone, body)
    else:
        asking = threading.Thread(target=lambda: answers.append(send(alone.url, TEXT, body)))
        asking.start()
    assert inside.wait(PATIENCE)
    die.set()
    if streamed:
        assert not stream.done if stream.wait() else False
        assert "restarted" in str(stream.chunks[-1])
    else:
        asking.join(PATIENCE)
        assert answers[0][0] == 503 and error_of(answers[0])["code"] == "failed"
    assert [send(alone.url, path)[0] for path in PATHS] == [503, 503]
    assert send(alone.url, "/live")[0] == 200
    assert error_of(send(alone.url, TEXT, body))["code"] == "failed"
