"""Clients take turns: who asks for much does not hold up whoever asks for little, and nobody waits for ever."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from hanok.core.errors import UsageError
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Request

Build = Callable[..., LLM]
Arrival = tuple[int, str | None, int]  # step, client, priority


def order(engine: Engine, arrivals: list[Arrival]) -> list[int]:
    """Return the arrivals' places in the order in which they end."""
    ended: list[int] = []
    ids: dict[int, int] = {}
    step = 0
    while len(ended) < len(arrivals):
        for place, (when, client, priority) in enumerate(arrivals):
            if when == step:
                sequence = engine.prepare(Request([1 + place % 90] * 5, 3, temperature=0, priority=priority))
                sequence.group = client
                ids[engine.enqueue(sequence)] = place
        ended += [ids[event.id] for event in engine.step() if event.output]
        engine.check()
        step += 1
        assert step < 40 * len(arrivals), "somebody waits for ever"
    return ended


@pytest.fixture
def engine(build: Build) -> Engine:
    """One place, so that what ends next is what was begun next."""
    return Engine(build("gqa"), max_sequences=1)


def test_a_single_request_waits_for_one_of_eight(engine: Engine) -> None:
    many: list[Arrival] = [(0, "many", 0)] * 8
    assert order(engine, [*many, (1, "one", 0)])[:3] == [0, 8, 1]


def test_the_control_without_clients_is_first_come_first_served(engine: Engine) -> None:
    assert order(engine, [*[(0, None, 0)] * 8, (1, None, 0)]) == list(range(9))


def test_two_clients_alternate_whatever_each_has_waiting(engine: Engine) -> None:
    found = order(engine, [*[(0, "a", 0)] * 6, *[(1, "b", 0)] * 4])
    assert found[:8] == [0, 6, 1, 7, 2, 8, 3, 9]
    assert found[8:] == [4, 5], "and within a client it is first come, first served"


def test_a_client_that_stays_away_saves_up_nothing(engine: Engine) -> None:
    assert order(engine, [*[(0, "a", 0)] * 8, *[(8, "b", 0)] * 3])[3:] == [3, 8, 4, 9, 5, 10, 6, 7]


def test_a_priority_still_goes_first_and_takes_the_place(engine: Engine) -> None:
    assert order(engine, [*[(0, "a", 0)] * 4, (1, "b", 0), (1, "a", -1), (1, "a", -1)]) == [5, 6, 0, 4, 1, 2, 3]


def test_priority_and_age(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sooner class goes first, also by taking a place; whoever has waited long enough is not overtaken any more."""
    arrivals: list[Arrival] = [(0, None, 0), (0, None, 5), (0, None, 1), (1, None, 0), (1, None, -1)]
    assert order(engine, arrivals) == [4, 0, 3, 2, 1]
    # A stream of requests of a sooner class, one for every three steps: the one of lower priority comes in between.
    monkeypatch.setattr("hanok.engine.scheduler.AGEING", 20)
    stream: list[Arrival] = [(0, None, 2), *((3 * n, None, 0) for n in range(30))]
    assert 12 <= order(engine, stream).index(0) <= 15
    with pytest.raises(UsageError, match="priority"):
        Request([1], priority=101)


@pytest.mark.parametrize("stream", [-1, 0])
def test_nobody_waits_for_ever_behind_his_own(engine: Engine, monkeypatch: pytest.MonkeyPatch, stream: int) -> None:
    monkeypatch.setattr("hanok.engine.scheduler.AGEING", 20)
    arrivals: list[Arrival] = [(0, "a", 2), *((3 * n, "a", stream) for n in range(40))]
    place = order(engine, arrivals).index(0)
    assert 8 <= place <= 30, "one of low priority comes among a stream of its client's own"


def test_nobody_waits_for_ever(build: Build) -> None:
    """Long and short requests, shared beginnings, a small pool: everyone ends, within a bound."""
    rng = random.Random(0)
    engine = Engine(build("gqa"), num_pages=10, page_size=8, max_sequences=4, chunk=8, max_batch_tokens=12)
    waited: dict[int, int] = {}
    for step in range(600):
        if step < 200 and rng.random() < 0.1:
            prompt = [1] * rng.randrange(1, 40) + [2] * rng.randrange(1, 9)
            waited[engine.add(Request(prompt, rng.randrange(1, 20), temperature=0, priority=rng.randrange(-1, 2)))] = (
                step
            )
        for event in engine.step():
            if event.output is not None:
                waited[event.id] = step - waited[event.id]
        engine.check()
        if step > 200 and not engine.has_work:
            break
    assert not engine.has_work and max(waited.values()) < 500
