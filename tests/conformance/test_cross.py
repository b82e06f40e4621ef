"""What every part that looks at a source inherits: a file in `nn/cross/` and its cases in `cases/`, and these run."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.engine.layout import Row
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool, Read, Slot
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.context import Dense, Source
from hanok.nn.cross import CROSSES
from hanok.ops.numerics import numerics

# One file of cases per kind: `cases/cross_<kind>.py` with a list CASES of specs.
CASES: dict[str, list[dict[str, Any]]] = {
    file.stem.removeprefix("cross_"): runpy.run_path(str(file))["CASES"]
    for file in sorted((Path(__file__).parent / "cases").glob("cross_*.py"))
}
MIXERS: dict[str, list[dict[str, Any]]] = {
    "attention": [{"kind": "gqa", "heads": 4, "kv_heads": 2}, {"kind": "gqa", "heads": 4, "see": "all"}],
    "recurrence": [{"kind": "lstm"}, {"kind": "gru"}],
}
STACKS = [(case, mixers) for cases in CASES.values() for case in cases for mixers in MIXERS]
FEW = [  # each kind once, in turn with attention and with a recurrence
    stack if at // 2 % 2 == at % 2 else pytest.param(*stack, marks=pytest.mark.slow) for at, stack in enumerate(STACKS)
]
ONE = [  # of each kind the last case, which has most settings
    stack
    if stack[0] is CASES[stack[0]["kind"]][-1] and (stack[1] == "recurrence") == (stack[0]["kind"] == "additive")
    else pytest.param(*stack, marks=pytest.mark.slow)
    for stack in STACKS
]
LENGTHS, SOURCES = (5, 37, 1, 40), (9, 1, 33, 65)
Serve = Callable[..., list[Tensor]]
CHUNKS = [(1,), (1, 2, 17, 33)]


def build(case: dict[str, Any], mixers: str = "attention", dtype: torch.dtype = torch.float64) -> Model:
    decoder, encoder = MIXERS[mixers]
    ffn = {"kind": "swiglu", "hidden": 40}
    stack = {"depth": 2, "layers": {"block": {"mixer": encoder, "ffn": ffn}}}
    layers = {"block": {"mixer": decoder, "cross": case, "ffn": ffn}}
    sizes = {"vocab": 31, "dim": 30 if mixers == "recurrence" else 32, "depth": 2}
    model = Model(ModelConfig.parse({**sizes, "layers": layers, "encoder": stack}), seed=3).to(dtype)
    generator = torch.Generator().manual_seed(6)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # biases start at 0: make each of them matter
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def name(value: Any) -> str | None:
    return " ".join(f"{key}={entry}" for key, entry in value.items()) if isinstance(value, dict) else None


def draw(lengths: tuple[int, ...], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 31, (n,), generator=generator) for n in lengths]


def padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return rows as (B,S) tokens, padded with tokens that are none of the padding's business, and which are seen."""
    longest = max(map(len, rows))
    tokens = torch.stack([torch.cat((row, torch.full((longest - len(row),), 7))) for row in rows])
    return tokens, torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]


def test_every_cross_has_a_case() -> None:
    assert set(CASES) == set(CROSSES)


@pytest.mark.parametrize(("case", "mixers"), STACKS, ids=name)
@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_gradient_reaches_every_parameter(case: dict[str, Any], mixers: str, mode: str) -> None:
    model = build(case, mixers)
    with numerics(mode):
        model(torch.randint(0, 31, (2, 9)), source=torch.randint(0, 31, (2, 6))).square().mean().backward()
    blind = "cross_norm" if case["kind"] == "fixed" else "nothing"  # a fixed context asks nothing of the decoder
    for path, parameter in model.named_parameters():
        if blind in path:
            assert parameter.grad is None or not parameter.grad.any(), path
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), path
            assert parameter.grad.abs().sum() > 0, path


@pytest.mark.parametrize("case", [case for cases in CASES.values() for case in cases], ids=name)
def test_exact_gradient_is_the_fast_one(case: dict[str, Any]) -> None:
    tokens, source = torch.randint(0, 31, (2, 9)), torch.randint(0, 31, (2, 6))
    grads = []
    for mode in ("fast", "exact"):
        model = build(case)
        with numerics(mode):
            model(tokens, source=source).square().mean().backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    for fast, exact in zip(*grads, strict=True):
        torch.testing.assert_close(exact, fast, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("case", "mixers"), FEW, ids=name)
@torch.no_grad()
def test_every_token_of_the_source_counts_or_the_last(case: dict[str, Any], mixers: str) -> None:
    model, tokens = build(case, mixers), torch.randint(0, 31, (1, 4))
    source = torch.randint(0, 31, (1, 6))
    with_source = model(tokens, source=source)
    for at in range(6):
        other = source.clone()
        other[0, at] = (other[0, at] + 1) % 31
        assert not torch.allclose(model(tokens, source=other), with_source), at
    with pytest.raises(UsageError, match="source"):
        model(tokens)


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize(("case", "mixers"), FEW, ids=name)
@torch.no_grad()
def test_padding_of_the_source_is_not_seen(case: dict[str, Any], mixers: str, mode: str) -> None:
    model, rows = build(case, mixers), draw(SOURCES, 1)
    tokens = torch.randint(0, 31, (len(rows), 11))
    source, seen = padded(rows)
    with numerics(mode):
        together = model(tokens, Dense(tokens, source=model.encode(source, seen)))
        alone = torch.cat([model(tokens[i : i + 1], source=row[None]) for i, row in enumerate(rows)])
        blind = model(tokens, Dense(tokens, source=model.encode(source)))
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)
    if mode == "exact":
        assert torch.equal(together, alone)
    assert not torch.allclose(blind, alone), "without the mask padding must matter"


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize(("case", "mixers"), FEW, ids=name)
@torch.no_grad()
def test_exact_bits_do_not_depend_on_the_batch(case: dict[str, Any], mixers: str, dtype: torch.dtype) -> None:
    model = build(case, mixers, dtype)
    x, source = torch.randint(0, 31, (5, 50)), torch.randint(0, 31, (5, 37))
    with numerics("exact"):
        whole = model(x, source=source)
        for row, length in ((0, 50), (3, 1), (4, 37)):
            part = slice(row, row + 1)
            assert torch.equal(model(x[part, :length], source=source[part]), whole[part, :length])


def reading(model: Model, sources: list[Tensor], pool: Pool) -> list[Slot]:
    """Return a fresh sequence for each source, with the source read."""
    slots = [pool.open() for _ in sources]
    for slot, source in zip(slots, sources, strict=True):
        slot.source = Read(model.encode(source[None]).states)
    return slots


@pytest.mark.parametrize(("case", "mixers"), FEW, ids=name)
@torch.no_grad()
def test_chunks_and_decode_equal_whole_sequences(case: dict[str, Any], mixers: str, serve: Serve) -> None:
    model, tokens, sources = build(case, mixers), draw(LENGTHS, 2), draw(SOURCES, 3)
    pool = Pool(model.memory(), 60, page_size=7, dtype=torch.float64, order="shuffled", seed=1)
    got = serve(model, tokens, pool, 4, (1, 1, 2, 7, 33), reading(model, sources, pool))
    for ids, source, logits in zip(tokens, sources, got, strict=True):
        torch.testing.assert_close(logits, model(ids[None], source=source[None])[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize(("case", "mixers"), ONE, ids=name)
@torch.no_grad()
def test_exact_numerics_are_bitwise_equal(case: dict[str, Any], mixers: str, dtype: torch.dtype, serve: Serve) -> None:
    model, tokens, sources = build(case, mixers, dtype), draw(LENGTHS, 2), draw(SOURCES, 3)
    with numerics("exact"):
        want = [model(ids[None], source=source[None])[0] for ids, source in zip(tokens, sources, strict=True)]
        for seed, chunks in enumerate(CHUNKS):
            pool = Pool(model.memory(), 40, dtype=dtype, order="shuffled", seed=seed)
            got = serve(model, tokens, pool, 4, chunks, reading(model, sources, pool))
            assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize(("case", "mixers"), FEW, ids=name)
@torch.no_grad()
def test_fork_truncate_dump_equal_recomputing(case: dict[str, Any], mixers: str) -> None:
    model, (tokens,), (source,) = build(case, mixers), draw((60,), 2), draw((21,), 3)
    pool = Pool(model.memory(), 60, page_size=16, dtype=torch.float64, order="shuffled")

    def read(slot: Slot, ids: Tensor) -> Tensor:
        row = Row(slot, slot.length, len(ids))
        pool.append(slot, len(ids))
        out: Tensor = model(ids[None], Paged(pool, [row]))[0, -1]
        return out

    def close(a: Tensor, *parts: Tensor) -> None:
        want = model(torch.cat(parts)[None], source=source[None])[0, -1]
        torch.testing.assert_close(a, want, rtol=1e-10, atol=1e-10)

    slot = pool.open()
    slot.source = Read(model.encode(source[None]).states)
    read(slot, tokens[:40])
    pool.snapshot(slot)
    twin = pool.fork(slot)
    close(read(twin, tokens[50:55]), tokens[:40], tokens[50:55])
    close(read(slot, tokens[40:60]), tokens[:60])
    pool.truncate(slot, 40)
    close(read(slot, tokens[55:]), tokens[:40], tokens[55:])
    restored = pool.restore(pool.dump(twin))
    close(read(restored, tokens[:3]), tokens[:40], tokens[50:55], tokens[:3])
    pool.close(slot)
    assert slot.source is None and twin.source is not None
    pool.check()


# Each kind's formula, spelled out for one query x_t (dim,) over the states h (S, dim) of a source.
def additive(part: Any, x: Tensor, h: Tensor) -> Tensor:
    scores = torch.stack([part.score.weight[0] @ torch.tanh(part.q(x) + part.k.weight @ state) for state in h])
    return part.o.weight @ sum(weight * state for weight, state in zip(scores.softmax(0), h, strict=True))


def fixed(part: Any, x: Tensor, h: Tensor) -> Tensor:
    out: Tensor = part.o.weight @ h[-1]
    return out


def attention(part: Any, x: Tensor, h: Tensor) -> Tensor:
    heads, group = [], part.heads // part.kv_heads
    for head in range(part.heads):
        size, own = part.head_dim, slice(head // group * part.head_dim, (head // group + 1) * part.head_dim)
        q = part.q(x)[head * size : (head + 1) * size]
        weight = torch.softmax(part.k(h)[:, own] @ q * part.scale, 0)
        heads.append(weight @ part.v(h)[:, own])
    out: Tensor = part.o(torch.cat(heads))
    return out


FORMULAS = {"additive": additive, "fixed": fixed, "attention": attention}


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("case", [case for cases in CASES.values() for case in cases], ids=name)
@torch.no_grad()
def test_equals_its_formula(case: dict[str, Any], mode: str) -> None:
    part: Any = build(case).blocks[0].get_submodule("cross")
    x, states = torch.randn(2, 5, 32, dtype=torch.float64), torch.randn(2, 9, 32, dtype=torch.float64)
    seen = torch.arange(9) < torch.tensor([[9], [4]])
    tokens = torch.zeros(2, 5, dtype=torch.int64)
    with numerics(mode):
        got = part(x, Dense(tokens, source=Source(states, seen)))
    rows = [
        torch.stack([FORMULAS[case["kind"]](part, step, state[see]) for step in row])
        for row, state, see in zip(x, states, seen, strict=True)
    ]
    torch.testing.assert_close(got, torch.stack(rows), rtol=1e-10, atol=1e-12)
