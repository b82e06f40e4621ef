"""The prefix cache: a hit changes no bit, whatever the memory; nobody finds what is not theirs, or is stale."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hanok.core.errors import UsageError
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.prefix import PrefixCache
from hanok.engine.request import Output, Request
from hanok.model.config import ModelConfig
from hanok.model.model import Model

Build = Callable[..., LLM]
Greedy = Callable[[LLM, list[int], int], list[int]]
MLA = {"kind": "mla", "heads": 3, "kv_rank": 11, "nope_dim": 6, "rope_dim": 4, "v_dim": 5}
GQA = {"kind": "gqa", "heads": 4, "kv_heads": 2}
MLP = {"kind": "swiglu", "hidden": 40}
MOE = {
    "kind": "moe",
    "experts": 6,
    "router": {"kind": "topk", "per_token": 2},
    "expert": {"kind": "swiglu", "hidden": 22},
}
BLOCKS: dict[str, list[dict[str, Any]]] = {
    "gqa": [{"mixer": GQA, "ffn": MLP}],
    "window": [{"mixer": {**GQA, "window": 45}, "ffn": MLP}],
    "windows": [{"mixer": {**GQA, "window": 45}, "ffn": MLP}, {"mixer": {**GQA, "window": 7}, "ffn": MLP}],
    "mixed": [{"mixer": {**GQA, "window": 9}, "ffn": MLP}, {"mixer": GQA, "ffn": MLP}],
    "mla": [{"mixer": MLA, "ffn": MLP}],
    "moe": [{"mixer": GQA, "ffn": MOE}],
    "mamba": [{"mixer": {"kind": "mamba"}, "ffn": MLP}],
    "rglru": [{"mixer": {"kind": "rglru"}, "ffn": MLP}],
    "hybrid": [{"mixer": {"kind": "mamba"}, "ffn": MLP}, {"mixer": GQA, "ffn": MLP}],
    "griffin": [{"mixer": {"kind": "rglru"}, "ffn": MLP}, {"mixer": {**GQA, "window": 17}, "ffn": MLP}],
}


# One of each kind of memory; the other stacks run with --slow.
FEW = [
    kind if kind in ("gqa", "window", "mla", "moe", "mamba", "griffin") else pytest.param(kind, marks=pytest.mark.slow)
    for kind in BLOCKS
]


def model_of(kind: str, dtype: torch.dtype = torch.float32) -> LLM:
    layers = {f"block{at}": block for at, block in enumerate(BLOCKS[kind])}
    pattern = list(layers) if len(layers) == 2 else ["block0", "block0"]
    config = {"vocab": 97, "dim": 32, "depth": 2, "context": 512, "layers": layers, "pattern": pattern}
    return LLM(Model(ModelConfig.parse(config), seed=3).to(dtype))


def tokens(count: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(97) for _ in range(count)]


def run(engine: Engine, requests: list[Request]) -> list[Output]:
    """Run requests to their end, with everything checked after each step."""
    at = {engine.add(request): place for place, request in enumerate(requests)}
    outputs: dict[int, Output] = {}
    while engine.has_work:
        outputs |= {at[event.id]: event.output for event in engine.step() if event.output}
        engine.check()
    assert engine.stats().pages_used == 0
    return [outputs[place] for place in range(len(requests))]


@pytest.mark.parametrize("kind", FEW)
def test_a_hit_changes_no_bit(kind: str) -> None:
    """Another question behind the same text, the same one again, and the next turn of a conversation."""
    llm, text = model_of(kind), tokens(100, 0)
    options: dict[str, Any] = {"temperature": 1.0, "logprobs": 3}
    first = Request(text + tokens(9, 1), 22, seed=1, **options)
    engine = Engine(llm, numerics="exact", num_pages=60)
    plain = Engine(llm, numerics="exact", num_pages=60, prefix_cache=False)
    answer = run(engine, [first])[0]
    turns = [
        Request(text + tokens(40, 2), 4, seed=2, **options),
        Request(text + tokens(40, 3), 4, seed=3, **options),
        first,
        Request(first.prompt + answer.tokens + tokens(5, 4), 4, seed=4, **options),
        Request(text[:96], 2, seed=5, **options),
    ]
    got = [answer] + [run(engine, [turn])[0] for turn in turns]
    want = run(plain, [first, *turns])
    assert got == want
    cached = [output.cached_tokens for output in got]
    # A part of a prompt is always computed; and in the middle of the first one, where nothing ended, is no state.
    assert cached == [0, 96, 96, 96, 128, 0 if engine.pool.stateful else 64]
    stats, queries = engine.stats(), sum(output.prompt_tokens for output in got)
    assert (stats.prefix_hits, stats.prefix_queries) == (sum(cached), queries)
    assert stats.computed_tokens == queries - sum(cached) + sum(len(output.tokens) - 1 for output in got)
    assert plain.stats().prefix_queries == 0 and plain.stats().pages_cached == 0


@pytest.mark.parametrize(
    "kind", ["hybrid", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("gqa", "window", "mamba"))]
)
def test_shared_beginnings_under_preemption_and_random_arrival(kind: str, greedy: Greedy) -> None:
    llm, rng = model_of(kind, torch.float64), random.Random(1)
    texts = [tokens(rng.randrange(10, 50), seed) for seed in range(3)]
    requests = [
        Request(
            rng.choice(texts) + tokens(rng.randrange(1, 20), 9 + rng.randrange(4)), rng.randrange(1, 20), temperature=0
        )
        for _ in range(12)
    ]
    engine = Engine(
        llm, num_pages=14, page_size=8, page_order="shuffled", max_batch_tokens=40, chunk=12, max_sequences=6
    )
    ids: dict[int, int] = {}
    outputs: dict[int, Output] = {}
    while len(outputs) < len(requests):
        if len(ids) < len(requests) and rng.random() < 0.6:
            ids[engine.add(requests[len(ids)])] = len(ids)
        if engine.scheduler.running and rng.random() < 0.4:
            engine.scheduler.preempt(rng.choice(engine.scheduler.running))
        outputs |= {ids[event.id]: event.output for event in engine.step() if event.output}
        engine.check()
    stats = engine.stats()
    assert stats.preemptions >= 10 and stats.pages_used == 0 and stats.prefix_hits > 0
    for at, request in enumerate(requests):
        assert outputs[at].tokens == greedy(llm, request.prompt, request.max_tokens), at


@pytest.mark.slow
@pytest.mark.parametrize("prefix_cache", [True, False], ids=["cached", "plain"])
@pytest.mark.parametrize("kind", BLOCKS)
def test_sixteen_pages_sixty_four_requests(kind: str, prefix_cache: bool) -> None:
    """Whatever is preempted, found again or computed anew, each request has the bits of running alone."""
    llm, rng = model_of(kind), random.Random(2)
    texts = [tokens(40, seed) for seed in range(4)]
    requests = [
        Request(rng.choice(texts) + tokens(rng.randrange(1, 20), i), 40, temperature=1.0, seed=i, logprobs=2)
        for i in range(64)
    ]
    # A model without pages is preempted by hand.
    engine = Engine(llm, numerics="exact", num_pages=16, page_order="shuffled", chunk=33, prefix_cache=prefix_cache)
    at = {engine.add(request): place for place, request in enumerate(requests)}
    outputs: dict[int, Output] = {}
    while engine.has_work:
        if not engine.pool.paged and engine.scheduler.running and rng.random() < 0.3:
            engine.scheduler.preempt(rng.choice(engine.scheduler.running))
        outputs |= {at[event.id]: event.output for event in engine.step() if event.output}
    engine.check()
    assert engine.stats().preemptions >= 10 or engine.pool.window is not None
    alone = Engine(llm, numerics="exact", prefix_cache=False)
    for place in range(0, 64, 7):
        assert outputs[place] == alone.generate([requests[place]])[0], place


def test_a_wrong_page_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control arm: with keys that forget what came before a page, a hit is wrong."""
    llm = model_of("gqa")
    one, two = tokens(32, 1), tokens(32, 2)
    requests = [
        Request(one + two + [5], 8, temperature=0, logprobs=0),
        Request(two + two + [5], 8, temperature=0, logprobs=0),
    ]
    want = [Engine(llm, numerics="exact", prefix_cache=False).generate([request])[0] for request in requests]
    for guarded in (True, False):
        engine = Engine(llm, numerics="exact")
        if not guarded:
            monkeypatch.setattr("hanok.engine.prefix._digest", lambda parent, ids: repr(list(ids)).encode())
        got = [run(engine, [request])[0] for request in requests]
        assert (got == want) is guarded


def test_samples_of_one_prompt_are_computed_once() -> None:
    """Eight requests of one prompt at once wait for its pages rather than computing them eight times."""
    for kind in ("gqa", "hybrid"):
        llm, prompt = model_of(kind), tokens(200, 0)
        requests = [Request(prompt, 6, temperature=1.0, seed=i, logprobs=0) for i in range(8)]
        engine = Engine(llm, numerics="exact", chunk=64)
        got = run(engine, requests)
        assert engine.stats().computed_tokens == 200 + 7 * (200 - 192) + 8 * 5
        assert got == Engine(llm, numerics="exact", prefix_cache=False).generate(requests)


def test_prompt_logprobs_read_the_whole_prompt() -> None:
    llm, prompt = model_of("gqa"), tokens(80, 0)
    engine = Engine(llm, numerics="exact")
    first = run(engine, [Request(prompt, 4, temperature=0, prompt_logprobs=1)])[0]
    plain = run(engine, [Request(prompt, 4, temperature=0)])[0]
    again = run(engine, [Request(prompt, 4, temperature=0, prompt_logprobs=1)])[0]
    assert first == again and (first.cached_tokens, plain.cached_tokens, again.cached_tokens) == (0, 64, 0)


def test_tenants_find_nothing_of_each_other() -> None:
    engine, prompt = Engine(model_of("hybrid")), tokens(80, 0)
    cached = [
        run(engine, [Request(prompt, 4, temperature=0, salt=salt)])[0].cached_tokens
        for salt in (None, "a", "b", "a", "b", None, "")
    ]
    assert cached == [0, 0, 0, 64, 64, 64, 64]  # no salt and an empty one are the same
    with pytest.raises(UsageError, match="salt must be a string"):
        Request(prompt, salt=3)  # type: ignore[arg-type]


def test_other_weights_are_other_text() -> None:
    """Between requests the engine sees that weights were written; the control arm does not look, and is wrong."""
    request = Request(tokens(80, 0), 6, temperature=0, logprobs=0)
    for guarded in (True, False):
        llm = model_of("gqa")
        engine = Engine(llm, numerics="exact")
        run(engine, [request])
        with torch.no_grad():
            for parameter in llm.model.parameters():
                parameter.mul_(1.1)
        if not guarded:
            engine._weights = [(p.data_ptr(), p._version) for p in [*llm.model.parameters(), *llm.model.buffers()]]
        want = Engine(llm, numerics="exact").generate([request])[0]
        got = run(engine, [request])[0]
        assert (got == want) is guarded and (got.cached_tokens == 0) is guarded


def test_a_reset_while_requests_run_leaves_nothing_behind() -> None:
    engine, request = Engine(model_of("griffin")), Request(tokens(80, 0), 40, temperature=0)
    id = engine.add(request)
    for _ in range(10):
        engine.step()
    assert engine.stats().pages_cached > 0 and engine.stats().prefix_state_bytes > 0
    engine.reset_prefix_cache()
    engine.check()
    while engine.has_work:
        assert all(event.id == id for event in engine.step())
        engine.check()
    assert engine.stats().pages_cached == 0 and engine.stats().prefix_state_bytes == 0
    assert run(engine, [request])[0].cached_tokens == 0
    assert run(engine, [request])[0].cached_tokens == 64
    Engine(model_of("gqa"), prefix_cache=False).reset_prefix_cache()


def test_what_failed_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = model_of("gqa")
    engine, request = Engine(llm, chunk=32), Request(tokens(80, 0), 6, temperature=0)
    engine.add(request)
    engine.step()
    engine.step()
    assert engine.stats().pages_cached == 1
    with monkeypatch.context() as patch:
        patch.setattr(llm.model, "hidden", lambda *_: 1 / 0)
        assert engine.step()[0].finish_reason == "error"
    engine.check()
    assert engine.stats().pages_cached == 0 and engine.stats().pages_used == 0
    engine.abort(engine.add(request))
    engine.add(request)
    engine.step()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(llm.model, "hidden", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        engine.step()
    for id in list(engine._live):
        engine.abort(id)
    engine.check()
    assert engine.stats().pages_cached == 1  # of the step that was computed; not of the one that was not


def test_the_longest_unused_goes_first_and_all_of_it_is_free() -> None:
    engine = Engine(model_of("gqa"), num_pages=9)
    prompts = [tokens(65, seed) for seed in range(4)]
    for prompt in prompts[:3]:
        run(engine, [Request(prompt, 1, temperature=0)])
    assert engine.stats().pages_cached == 6 and engine.pool.pages_free == 9
    assert run(engine, [Request(prompts[0], 1, temperature=0)])[0].cached_tokens == 64
    run(engine, [Request(tokens(180, 9), 1, temperature=0)])  # six pages: three that are free, three that are kept
    assert engine.stats().pages_cached == 8
    cached = [run(engine, [Request(prompts[at], 1, temperature=0)])[0].cached_tokens for at in (0, 2, 1)]
    assert cached == [64, 32, 0]


def test_states_stay_within_their_bytes() -> None:
    llm = model_of("mamba")
    each = Engine(llm).pool
    each.open()
    row = each.store.row_bytes
    for budget, most in ((row - 1, 0), (3 * row + 1, 3)):
        engine = Engine(llm, prefix_state_bytes=budget)
        for seed in range(5):
            run(engine, [Request(tokens(150, seed), 12, temperature=0)])
            assert engine.stats().prefix_state_bytes <= budget
        assert engine.stats().prefix_state_bytes == most * row
        assert run(engine, [Request(tokens(150, 4), 1)])[0].cached_tokens == (128 if most else 0)
        assert run(engine, [Request(tokens(150, 0), 1)])[0].cached_tokens == 0


def test_where_prompts_part_a_state_is_kept() -> None:
    """The second prompt shows that the first's beginning is shared; from the third on it is found."""
    engine, text = Engine(model_of("mamba"), chunk=512), tokens(100, 0)
    outputs = [run(engine, [Request(text + tokens(100, seed), 1)])[0] for seed in (1, 2, 3)]
    assert [output.cached_tokens for output in outputs] == [0, 0, 96]


@pytest.mark.parametrize("window", [8, *(pytest.param(window, marks=pytest.mark.slow) for window in (1, 21))])
def test_windows_give_pages_back(window: int, greedy: Greedy, build: Build) -> None:
    """A sequence of 150 tokens through a pool that holds a few windows; storage does not grow with its length."""
    llm = build("window", window=window)
    request = Request(tokens(100, 0), 50, temperature=0)
    want = greedy(llm, request.prompt, 50)
    for options in ({"prefix_cache": False}, {"num_pages": -(-(window + 11) // 8) + 1}, {"page_order": "shuffled"}):
        engine = Engine(llm, page_size=8, chunk=12, **options)
        engine.add(request)
        used, output = 0, None
        while engine.has_work:
            for event in engine.step():
                output = event.output
            used = max(used, engine.stats().pages_used)
            engine.check()
        assert output is not None and output.tokens == want
        assert used <= -(-(window + 11) // 8) + 1
        if not engine.config.prefix_cache:
            assert engine.pool.store.pages <= 16  # where storage begins; the sequence had 19


def test_a_pool_smaller_than_a_windowed_sequence(build: Build) -> None:
    """Control arm: without a window the same request is refused at once."""
    options: dict[str, Any] = {"page_size": 8, "num_pages": 6, "chunk": 8}
    request = Request(tokens(100, 0), 50, temperature=0)
    assert len(Engine(build("window"), **options).generate([request])[0].tokens) == 50
    with pytest.raises(UsageError, match="whole pool of 48 tokens"):
        Engine(build("gqa"), **options).add(request)


def test_integrity_check_has_teeth() -> None:
    """Control arm: each kind of damage to the index is found."""

    def cache(engine: Engine) -> PrefixCache:
        assert engine.prefix is not None
        return engine.prefix

    damages: dict[str, Callable[[Engine], Any]] = {
        "do not belong together": lambda engine: cache(engine)._pages.popitem(),
        "does not keep it": lambda engine: engine.pool._pages.kept.__setitem__(next(iter(cache(engine)._keys)), False),
        "number of idle pages": lambda engine: setattr(engine.pool._pages, "idle", 0),
        "bytes of states are wrong": lambda engine: setattr(cache(engine), "bytes", 1),
        "more bytes of states": lambda engine: setattr(cache(engine), "state_bytes", 1),
    }
    for message, damage in damages.items():
        engine = Engine(model_of("griffin"))
        run(engine, [Request(tokens(80, 0), 2)])
        damage(engine)
        if message == "does not keep it":
            engine.pool._pages.idle -= 1
        with pytest.raises(AssertionError, match=message):
            engine.check()


@pytest.mark.parametrize("kind", ["window", "griffin"])
def test_hits_go_along_with_guesses(kind: str) -> None:
    """Guesses that failed leave nothing in the cache: with speculation and hits, the bits are those without both."""
    llm, text = model_of(kind), tokens(20, 0) * 4
    first = Request(text, 40, temperature=0, logprobs=0)
    engine = Engine(llm, numerics="exact", num_pages=40, speculation={"kind": "ngram"})
    answer = run(engine, [first])[0]
    turns = [first, Request(text + answer.tokens + text[:9], 20, temperature=0, logprobs=0)]
    got = [run(engine, [turn])[0] for turn in turns]
    plain = Engine(llm, numerics="exact", num_pages=40, prefix_cache=False)
    assert [answer, *got] == plain.generate([first, *turns])
    assert engine.stats().drafted_tokens > 0 and got[0].cached_tokens == 64 and got[1].cached_tokens >= 96
