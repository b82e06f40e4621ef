"""The engine on the kernels: the same model as without them, and exact numerics as exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.engine import recorded
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.pool import Pool
from hanok.engine.request import Request
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.model.packing import pack_weights
from hanok.nn.linear import Linear
from hanok.ops import native
from hanok.ops.native.tape import Tape
from hanok.ops.numerics import numerics

Build = Callable[..., LLM]
Serve = Callable[..., list[Tensor]]


pytestmark = pytest.mark.usefixtures("kernels")


GQA = {"kind": "gqa", "heads": 6, "kv_heads": 2, "head_dim": 12}
MIXERS: dict[str, dict[str, Any]] = {
    "groups": GQA,
    "window": {**GQA, "window": 9},
    "softcap": {**GQA, "softcap": 5.0},
    "sinks": {**GQA, "sinks": "learned"},
    "alibi": {**GQA, "position": "alibi", "window": 20},
    "interleaved": {**GQA, "position": {"kind": "rope", "layout": "interleaved", "dims": 6}},
    "mla": {"kind": "mla", "heads": 3, "kv_rank": 20, "nope_dim": 8, "rope_dim": 4, "v_dim": 10},
}


def model_of(mixer: dict[str, Any], dtype: torch.dtype) -> Model:
    block = {"mixer": mixer, "ffn": {"kind": "swiglu", "hidden": 40}}
    model = Model(ModelConfig.parse({"vocab": 61, "dim": 36, "depth": 2, "layers": {"block": block}}), seed=2)
    for part in model.modules():
        if getattr(part, "sinks", None) is not None:
            torch.nn.init.normal_(part.sinks)
    return model.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", sorted(MIXERS))
@torch.no_grad()
def test_steps_equal_whole_sequences(kind: str, dtype: torch.dtype, serve: Serve) -> None:
    """Through shuffled small pages in random chunks, against a whole forward by torch in float32."""
    model = model_of(MIXERS[kind], dtype)
    tokens = [torch.randint(0, 61, (n,)) for n in (5, 40, 1, 23)]
    pool = Pool(model.memory(), 60, dtype=dtype, order="shuffled", page_size=7)
    got = serve(model, tokens, pool, 1, (1, 1, 2, 9))
    with native.used(None):
        wide = model.float()
        for ids, logits in zip(tokens, got, strict=True):
            want = wide(ids[None])[0]
            assert (logits - want).norm() <= (1e-5 if dtype == torch.float32 else 0.03) * want.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", sorted(MIXERS))
def test_exact_steps_have_the_bits_of_training(kind: str, dtype: torch.dtype, serve: Serve) -> None:
    """Through shuffled small pages in random chunks, against the forward of a batch as a trainer runs it."""
    model = model_of(MIXERS[kind], dtype)
    tokens = [torch.randint(0, 61, (n,)) for n in (5, 70, 1, 23)]
    with numerics("exact"):
        with torch.inference_mode():
            got = serve(
                model, tokens, Pool(model.memory(), 60, dtype=dtype, order="shuffled", page_size=7), 1, (1, 2, 30)
            )
        for ids, logits in zip(tokens, got, strict=True):
            trained = model(torch.stack([ids, ids.flip(0)]))[0]
            assert trained.requires_grad and torch.equal(logits, trained)
            trained.sum().backward()
    with native.used(None), numerics("exact"), torch.no_grad():
        tiles = model(tokens[1][None])[0]
    assert (tiles - got[1]).norm() <= (1e-5 if dtype == torch.float32 else 0.03) * tiles.norm()


@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8", "int4"])
def test_exact_stays_exact(build: Build, weights: str) -> None:
    """The engine's log-probs, in a batch and alone, are those of a training forward, whatever the weights lie in."""
    llm = build("hybrid", torch.float32)
    pack_weights(llm.model, weights)
    requests = [
        Request(torch.randint(0, 97, (n,)).tolist(), 6, temperature=1.0, seed=n, logprobs=0) for n in (3, 40, 9)
    ]
    outputs = Engine(llm, numerics="exact", chunk=7, page_order="shuffled").generate(requests)
    with numerics("exact"):
        for request, output in zip(requests, outputs, strict=True):
            ids = torch.tensor([output.prompt_ids + output.tokens])
            assert llm.logprobs(ids)[0, output.prompt_tokens - 1 :].tolist() == output.logprobs
            with torch.enable_grad():  # as the trainer's forward runs
                logits = llm.model(ids)[0, output.prompt_tokens - 1 : -1]
            chosen = logits.log_softmax(-1).gather(-1, torch.tensor(output.tokens)[:, None])[:, 0]
            assert (chosen - torch.tensor(output.logprobs)).abs().max() < 1e-5
            assert Engine(llm, numerics="exact").generate([request])[0].logprobs == output.logprobs


def test_formats_change_the_weights_and_nothing_else(build: Build, tmp_path: Path) -> None:
    build("gqa", torch.float32, dim=64).save(tmp_path)
    tokens = torch.randint(0, 97, (1, 30))
    want = LLM.load(tmp_path).logprobs(tokens)
    gaps = {}
    for weights in ("fp32", "bf16", "int8", "int4"):
        llm = LLM.load(tmp_path, weights=weights)
        kinds = {part.kind for part in llm.model.modules() if isinstance(part, Linear)}
        assert kinds == {"dense" if weights == "fp32" else weights}
        gaps[weights] = float((llm.logprobs(tokens) - want).abs().mean())
    assert gaps["fp32"] < 1e-5 < gaps["bf16"] < gaps["int8"] < gaps["int4"] < 0.3


def greedy(llm: LLM, batch: int, **options: Any) -> list[list[int]]:
    requests = [Request([i + 1, 5, 9], 40, temperature=0.0) for i in range(batch)]
    return [output.tokens for output in Engine(llm, **{"page_size": 8, **options}).generate(requests)]


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("kind", ["groups", "window", "sinks", "interleaved"])
def test_recorded_steps_are_the_plain_ones(kind: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through pages that are added, a pool that grows and moves, and a batch whose size changes."""
    llm = LLM(model_of(MIXERS[kind], torch.float32))
    made: list[int] = []
    replay = Tape.replay
    monkeypatch.setattr(Tape, "replay", lambda tape: made.append(1) or replay(tape))
    options = {"numerics": mode, "page_size": 32 if mode == "exact" else 8}
    got = [greedy(llm, batch, **options) for batch in (1, 3, 20)]
    assert len(made) > 90
    monkeypatch.setattr(recorded, "TOKENS", 0)
    assert [greedy(llm, batch, **options) for batch in (1, 3, 20)] == got


def test_recordings_have_room_or_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 3 tokens takes less than one of 20; the second is made, found too large, and never again."""
    llm = LLM(model_of(GQA, torch.float32))
    want = [greedy(llm, 3), greedy(llm, 20)]
    engine = Engine(llm, page_size=8)
    engine.generate([Request([i + 1, 5, 9], 9, temperature=0.0) for i in range(3)])
    ((held, *_),) = engine._recorder._tapes.values()
    monkeypatch.setattr(recorded, "ROOM", 2 * held.bytes)
    assert [greedy(llm, 3), greedy(llm, 20)] == want
    engine.generate([Request([i + 1, 5, 9], 9, temperature=0.0) for i in range(20)])
    assert engine._recorder._most == 19 and held.bytes == sum(
        tape.bytes for tape, *_ in engine._recorder._tapes.values()
    )


def test_a_model_that_changes_is_recorded_anew() -> None:
    model = model_of(GQA, torch.float32)
    llm, engine = LLM(model), Engine(LLM(model))
    ids = [1, 2, 3]
    first = engine.generate([Request(ids, 20, temperature=0.0, logprobs=0)])[0]
    with torch.no_grad():
        model.blocks[0].ffn.up.weight.mul_(1.5)  # in place: a recording reads what is there
    pack_weights(model, "int8")  # other modules in their places
    again = engine.generate([Request(ids, 20, temperature=0.0, logprobs=0)])[0]
    assert again.logprobs == Engine(llm).generate([Request(ids, 20, temperature=0.0, logprobs=0)])[0].logprobs
    assert again.logprobs != first.logprobs
    for part in model.parameters():  # the same parameters with other numbers elsewhere, as `to` and averages do
        part.data = part.data * 0.5
    moved = engine.generate([Request(ids, 20, temperature=0.0, logprobs=0)])[0]
    assert moved.logprobs == Engine(llm).generate([Request(ids, 20, temperature=0.0, logprobs=0)])[0].logprobs
    assert moved.logprobs != again.logprobs


def test_what_another_thread_exchanges_is_noticed_soon() -> None:
    """At once by a step of its own; within eight where nothing else was done; old numbers stay readable until then."""
    model = model_of(GQA, torch.float32)
    engine = Engine(LLM(model))
    engine.add(Request([1, 2, 3], 60, temperature=0.0))
    recorder = engine._recorder
    for _ in range(10):
        engine.step(again=True)
    for again, most in ((True, 8), (False, 1), (True, 8)):
        assert engine.replayed == 1
        seen, weight = recorder._watch, model.blocks[1].ffn.up.weight
        assert seen is not None
        weight.data = weight.data * 0.5
        for _ in range(most):
            engine.step(again=again)
            if recorder._watch is not seen:
                break
        assert recorder._watch is not seen
        engine.step(again=True)


def test_another_model_in_its_place_is_watched_too() -> None:
    models = [model_of(GQA, torch.float32) for _ in range(2)]
    llm, request = LLM(models[0]), Request([1, 2, 3], 12, temperature=0.0, logprobs=0)
    engine = Engine(llm, prefix_cache=False)
    engine.generate([request])
    llm.model = models[1]
    engine.generate([request])
    for part in models[1].parameters():
        part.data = part.data * 0.5
    assert engine.generate([request])[0].logprobs == Engine(llm).generate([request])[0].logprobs


def test_tables_of_angles_grow_under_recordings() -> None:
    """A recording of short texts outlives the larger table that a long prompt needs."""
    config = {"vocab": 61, "dim": 36, "depth": 2, "context": 4096}
    block = {"mixer": GQA, "ffn": {"kind": "swiglu", "hidden": 40}}
    llm = LLM(Model(ModelConfig.parse({**config, "layers": {"block": block}}), seed=2))
    engine = Engine(llm, num_pages=200, prefix_cache=False)
    long = torch.randint(0, 61, (1010,), generator=torch.Generator().manual_seed(0)).tolist()
    short, across = Request([1, 2, 3], 12, temperature=0.0, logprobs=0), Request(long, 60, temperature=0.0, logprobs=0)
    engine.generate([Request(long[:900], 1)] * 4)  # the pool has room now, and does not move any more
    moves = engine.pool.store.moves
    engine.generate([short])
    engine.generate([Request(long * 2, 1)])
    junk = [torch.full((1024, 6), 7.0) for _ in range(50)]  # where the smaller table was, had it been freed
    found = [engine.generate([request])[0] for request in (short, across, short)]
    assert engine.replayed == 1 and engine._recorder._heads and engine.pool.store.moves == moves and junk
    with native.used(None):
        want = [Engine(llm).generate([request])[0] for request in (short, across, short)]
    for one, plain in zip(found, want, strict=True):
        assert one.tokens == plain.tokens and one.logprobs == pytest.approx(plain.logprobs, abs=1e-4)


def test_decoding_past_a_table_of_angles_is_recorded_anew() -> None:
    config = {"vocab": 61, "dim": 36, "depth": 2, "context": 4096}
    block = {"mixer": GQA, "ffn": {"kind": "swiglu", "hidden": 40}}
    llm = LLM(Model(ModelConfig.parse({**config, "layers": {"block": block}}), seed=2))
    engine, ids = Engine(llm, prefix_cache=False), [5] * 1018
    got = engine.generate([Request(ids, 30, temperature=0.0)])[0].tokens
    assert engine.replayed == 1 and engine._recorder._heads
    with native.used(None):
        assert Engine(llm).generate([Request(ids, 30, temperature=0.0)])[0].tokens == got


def test_a_head_that_cannot_be_recorded_comes_after_the_rest() -> None:
    config = {"vocab": 61, "dim": 36, "depth": 2, "layers": {"block": {"mixer": GQA, "ffn": {"kind": "swiglu"}}}}
    model = Model(ModelConfig.parse({**config, "head": {"softcap": 5.0}}), seed=2)
    engine, ids, tokens = Engine(LLM(model)), [1, 2], []
    got = engine.generate([Request(ids, 12, temperature=0.0)])[0].tokens
    assert engine.replayed == 1 and not engine._recorder._heads
    for _ in range(12):
        with torch.no_grad():
            tokens.append(int(model(torch.tensor([ids + tokens]))[0, -1].argmax()))
    assert got == tokens


def test_what_cannot_be_recorded_goes_on_as_before(build: Build) -> None:
    """A state that a recording began to change would be changed twice."""
    engine = Engine(build("hybrid", torch.float32))
    ids, tokens = [1, 2], []
    got = engine.generate([Request(ids, 12, temperature=0.0)])[0].tokens
    assert engine._recorder._most == 0
    for _ in range(12):
        with torch.no_grad():
            tokens.append(int(engine.llm.model(torch.tensor([ids + tokens]))[0, -1].argmax()))
    assert got == tokens
