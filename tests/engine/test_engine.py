"""The engine against the plain greedy loop, whatever else happens: arrivals, chunks, preemption, aborts, failures."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanok.core.errors import HanokError, UsageError
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Event, Output, Request

KINDS = ["gqa", "window", "rglru", "hybrid"]
Build = Callable[..., LLM]
Greedy = Callable[[LLM, list[int], int], list[int]]


def work(vocab: int, count: int, seed: int = 0) -> list[Request]:
    rng = random.Random(seed)
    return [
        Request([rng.randrange(vocab) for _ in range(rng.randrange(1, 70))], rng.randrange(1, 20), temperature=0)
        for _ in range(count)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_equals_dense_under_random_arrival_and_preemption(build: Build, greedy: Greedy, kind: str) -> None:
    llm = build(kind)
    requests = work(llm.config.vocab, 12)
    rng = random.Random(1)
    options = {"num_pages": 12, "page_size": 8, "page_order": "shuffled", "max_batch_tokens": 40, "chunk": 9}
    engine = Engine(llm, **options, max_sequences=7)
    ids: dict[int, int] = {}
    outputs: dict[int, Output] = {}
    while len(outputs) < len(requests):
        if len(ids) < len(requests) and rng.random() < 0.6:
            ids[engine.add(requests[len(ids)])] = len(ids)
        if engine.scheduler.running and rng.random() < 0.35:  # any of them, though pages may not have run out
            engine.scheduler.preempt(rng.choice(engine.scheduler.running))
        outputs |= {ids[event.id]: event.output for event in engine.step() if event.output}
        engine.check()
    stats = engine.stats()
    assert stats.preemptions >= 10 and stats.pages_used == 0 and not engine.has_work
    for at, request in enumerate(requests):
        assert outputs[at].tokens == greedy(llm, request.prompt, request.max_tokens), at
        assert outputs[at].finish_reason == "length" and outputs[at].prompt_tokens == len(request.prompt)


@pytest.mark.slow
def test_a_small_pool_gives_the_bits_of_running_alone(build: Build) -> None:
    """64 requests through 16 pages, by preemption: tokens and log-probs are those of each alone."""
    llm = build("gqa", torch.float32, context=128)
    rng = random.Random(2)
    requests = [
        Request([rng.randrange(97) for _ in range(rng.randrange(1, 60))], 40, temperature=1.0, seed=i, logprobs=2)
        for i in range(64)
    ]
    for prefix_cache in (True, False):
        options: dict[str, Any] = {"num_pages": 16, "page_order": "shuffled", "chunk": 33}
        engine = Engine(llm, numerics="exact", prefix_cache=prefix_cache, **options)
        together = engine.generate(requests)
        assert engine.stats().preemptions >= 10
        for at in range(0, 64, 8):
            alone = Engine(llm, numerics="exact", prefix_cache=False).generate([requests[at]])[0]
            assert together[at] == alone, at


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_pool_integrity_after_every_step(build: Build, data: st.DataObject) -> None:
    llm = build("hybrid", torch.float32)
    options = {
        "num_pages": data.draw(st.integers(8, 30)),
        "max_batch_tokens": data.draw(st.integers(1, 60)),
        "max_sequences": data.draw(st.integers(1, 8)),
        "chunk": data.draw(st.integers(1, 40)),
        "page_order": data.draw(st.sampled_from(["linear", "shuffled"])),
    }
    engine = Engine(llm, page_size=8, **options)
    live: list[int] = []
    for action in data.draw(
        st.lists(st.sampled_from(["add", "add", "step", "step", "step", "abort", "preempt"]), max_size=40)
    ):
        if action == "add":
            length, count = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 14))
            live.append(engine.add(Request([1] * length, count, seed=1)))
        elif action == "abort" and live:
            engine.abort(live.pop(data.draw(st.integers(0, len(live) - 1))))
        elif action == "preempt" and engine.scheduler.running:
            engine.scheduler.preempt(data.draw(st.sampled_from(engine.scheduler.running)))
        else:
            engine.step()
        engine.check()
    while engine.has_work:
        engine.step()
        engine.check()
    assert engine.stats().pages_used == 0


def test_seeds_do_not_depend_on_neighbours(build: Build) -> None:
    llm = build("gqa")
    options: dict[str, Any] = {"max_tokens": 30, "temperature": 1.3, "top_p": 0.95, "top_k": 50}
    request = Request([5, 6, 7], seed=11, **options)
    alone = Engine(llm).generate([request])[0]
    others = [Request([i, 2], seed=i, **options) for i in range(9)]
    mixed = Engine(llm, chunk=2, num_pages=9, page_order="shuffled").generate([*others[:4], request, *others[4:]])[4]
    assert mixed == alone
    assert Engine(llm).generate([request])[0] == alone
    assert Engine(llm).generate([Request([5, 6, 7], seed=12, **options)])[0].tokens != alone.tokens
    assert Engine(llm).generate([Request([5, 6, 7], seed=-11, **options)])[0].tokens != alone.tokens


def test_requests_without_a_seed_differ_and_follow_the_engine(build: Build) -> None:
    llm = build("gqa")
    twice = [Request([5], 20), Request([5], 20)]
    first, second = Engine(llm, seed=1).generate(twice)
    assert first.tokens != second.tokens
    assert [first, second] == Engine(llm, seed=1).generate(twice)
    assert first != Engine(llm, seed=2).generate(twice)[0]


def test_events_add_up(build: Build) -> None:
    llm = build("hybrid")
    engine = Engine(llm, chunk=5)
    ids = [engine.add(Request([i + 1] * (3 + 9 * i), 7, seed=i, logprobs=3)) for i in range(4)]
    events: dict[int, list[Event]] = {id: [] for id in ids}
    while engine.has_work:
        for event in engine.step():
            events[event.id].append(event)
    for id in ids:
        *early, last = events[id]
        assert all(event.output is None and event.finish_reason is None for event in early)
        assert last.output is not None and last.output.finish_reason == last.finish_reason == "length"
        assert [t for e in events[id] for t in e.tokens] == last.output.tokens
        assert [x for e in events[id] for x in e.logprobs or []] == last.output.logprobs
        assert [x for e in events[id] for x in e.top_logprobs or []] == last.output.top_logprobs
    stats = engine.stats()
    assert stats.generated_tokens == 28 and stats.finished == 4 and stats.prompt_tokens == 3 + 12 + 21 + 30


def test_logprobs_are_the_models_own(build: Build) -> None:
    llm = build("gqa")
    request = Request([3, 1, 4], 12, temperature=0.7, top_k=5, seed=0, logprobs=4)
    output = Engine(llm).generate([request])[0]
    tokens = torch.tensor([[3, 1, 4, *output.tokens]])
    with torch.no_grad():
        logprobs = llm.model(tokens)[0, 2:-1].log_softmax(-1)
    chosen = logprobs.gather(-1, tokens[0, 3:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(output.logprobs, dtype=torch.float64), chosen, rtol=1e-9, atol=1e-9)
    best = logprobs.topk(4)
    assert output.top_logprobs is not None
    for at, top in enumerate(output.top_logprobs):
        assert [token for token, _ in top] == best.indices[at].tolist()
        assert [value for _, value in top] == pytest.approx(best.values[at].tolist())
    torch.testing.assert_close(llm.logprobs(tokens)[0, 2:].double(), chosen, rtol=1e-6, atol=1e-6)
    without = Engine(llm).generate([Request([3, 1, 4], 12, temperature=0.7, top_k=5, seed=0)])[0]
    assert without.tokens == output.tokens and without.logprobs is None and without.top_logprobs is None


def test_abort_returns_every_page(build: Build) -> None:
    engine = Engine(build("hybrid"), chunk=5, num_pages=40, page_size=8)
    ids = [engine.add(Request([1] * 30, 10, seed=i)) for i in range(9)]
    for step in range(9):
        event = engine.abort(ids[step])
        assert event is not None and event.finish_reason == "abort" and event.output is not None
        assert engine.abort(ids[step]) is None
        engine.step()
        engine.check()
    assert engine.stats().pages_used == 0 and engine.stats().running == 0 and not engine.has_work


def test_generate_interrupted_leaves_nothing_behind(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(build("gqa"))

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine, "_forward", interrupt)
        engine.generate(work(97, 3))
    engine.check()
    assert engine.stats().pages_used == 0 and not engine.has_work
    assert len(engine.generate(work(97, 3))) == 3


def test_a_failing_step_ends_only_its_requests(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = build("gqa")
    engine = Engine(llm, max_sequences=2)
    ids = [engine.add(Request([1, 2], 5, seed=0)) for _ in range(4)]
    with monkeypatch.context() as patch:
        patch.setattr(llm.model, "hidden", lambda *_: 1 / 0)
        events = engine.step()
    assert [event.id for event in events] == ids[:2]
    assert all(event.finish_reason == "error" and isinstance(event.error, ZeroDivisionError) for event in events)
    engine.check()
    rest: list[Event] = []
    while engine.has_work:
        rest += engine.step()
    assert {event.id for event in rest if event.finish_reason == "length"} == set(ids[2:])
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(llm.model, "hidden", lambda *_: 1 / 0)
        engine.generate([Request([1], 2)])
    assert not engine.has_work


def test_numbers_that_overflow_end_one_request(build: Build) -> None:
    """A token whose embedding is NaN poisons its own sequence, not its neighbours, nor who gets its pages next."""
    llm = build("gqa", torch.float32)
    with torch.no_grad():
        llm.model.embed.weight[7] = float("nan")
        llm.model.head.weight = torch.nn.Parameter(torch.randn_like(llm.model.head.weight))
    options: dict[str, Any] = {"num_pages": 4, "page_size": 8, "max_sequences": 2}
    good = Request([1, 2, 3], 9, temperature=0, stop_token_ids=[7])
    want = Engine(llm, **options).generate([good])[0]
    engine = Engine(llm, **options)
    engine.add(Request([7] * 6, 4))
    kept = [engine.add(good) for _ in range(3)]
    outputs = {}
    while engine.has_work:
        for event in engine.step():
            if event.output is not None:
                outputs[event.id] = event
    assert outputs[0].finish_reason == "error" and "not finite" in str(outputs[0].error)
    assert isinstance(outputs[0].error, HanokError)
    assert all(outputs[id].output == want for id in kept)


def test_first_come_first_served_and_nobody_starves(build: Build) -> None:
    engine = Engine(build("gqa"), num_pages=8, page_size=8, max_sequences=4, chunk=8, max_batch_tokens=16)
    first = engine.add(Request([1] * 40, 20, seed=0))
    others = [engine.add(Request([2] * 3, 20, seed=0)) for _ in range(10)]
    ended = []
    for _ in range(400):
        ended += [event.id for event in engine.step() if event.output]
    assert sorted(ended) == [first, *others]
    assert ended.index(first) <= 4  # those admitted beside it may be quicker; those behind it are not


BAD = [
    ({"prompt": [1] * 250}, "max_tokens.*context of 256.*at most 6"),
    ({"prompt": [1] * 256}, "leaves no room"),
    ({"prompt": [1, 97]}, "token id 97.*97 tokens"),
    ({"prompt": [1], "stop_token_ids": [97]}, "stop_token_ids"),
    ({"prompt": [1], "logprobs": 98}, "logprobs"),
    ({"prompt": [1] * 40, "max_tokens": 100}, "whole pool of 128 tokens"),
    ({"prompt": [1] * 200, "max_tokens": None}, "whole pool of 128 tokens"),
    ({"prompt": "text"}, "no tokenizer"),
    ({"prompt": [{"role": "user", "content": "x"}]}, "no tokenizer"),
    ({"prompt": [1], "stop": ["x"]}, "stop_token_ids"),
    ({"prompt": [1] * 128, "max_tokens": None, "min_tokens": 2}, "min_tokens"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[message for _, message in BAD])
def test_impossible_requests_are_refused_at_once(build: Build, fields: dict[str, Any], message: str) -> None:
    engine = Engine(build("gqa"), num_pages=16, page_size=8)
    with pytest.raises(UsageError, match=message):
        engine.add(Request(**fields))
    assert not engine.has_work


def test_max_tokens_none_goes_to_the_limit(build: Build) -> None:
    assert len(Engine(build("gqa")).generate([Request([1] * 200, None)])[0].tokens) == 56
    assert len(Engine(build("gqa"), num_pages=16, page_size=8).generate([Request([1] * 100, None)])[0].tokens) == 29
    assert len(Engine(build("rglru"), num_pages=1).generate([Request([1] * 200, None)])[0].tokens) == 56


@pytest.mark.parametrize("request_kind", ["stop_token_ids", "eos"])
def test_stop_tokens(build: Build, greedy: Greedy, request_kind: str) -> None:
    llm = build("gqa")
    free = greedy(llm, [1, 2, 3], 12)
    stop = free[5]
    at = free.index(stop)
    ids = [stop] if request_kind == "stop_token_ids" else []
    if request_kind == "eos":
        llm = LLM(llm.model, ids=type(llm.ids)(eos=(stop,)))
    engine = Engine(llm)
    output = engine.generate([Request([1, 2, 3], 12, temperature=0, stop_token_ids=ids)])[0]
    assert output.tokens == free[: at + 1] and output.finish_reason == "stop"
    late = engine.generate([Request([1, 2, 3], 12, temperature=0, stop_token_ids=ids, min_tokens=9)])[0]
    assert stop not in late.tokens[:9] and len(late.tokens) >= 9
    ignored = engine.generate([Request([1, 2, 3], 12, temperature=0, ignore_eos=True)])[0]
    assert ignored.tokens == free and ignored.finish_reason == "length"


def test_bad_options() -> None:
    llm: Any = None
    bad = {"chunk": 0, "max_sequences": True, "num_pages": -1, "page_order": "sorted", "numerics": "slow", "seed": 1.5}
    for name, value in bad.items():
        with pytest.raises(UsageError, match=name):
            Engine(llm, **{name: value})
    with pytest.raises(UsageError, match="did you mean 'max_sequences'"):
        Engine(llm, max_sequence=3)
    with pytest.raises(UsageError, match="multiple of 32"):
        Engine(llm, numerics="exact", page_size=8)
