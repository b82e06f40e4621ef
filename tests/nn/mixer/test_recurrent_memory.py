"""Recurrent mixers through the engine's memory: whole sequences, ragged chunks and single tokens are one function."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.engine.layout import Row
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.model.size import count_model
from hanok.nn.context import PerSequence
from hanok.ops.numerics import numerics

KINDS = ("rnn", "lstm", "gru", "linear_attention", "retention", "rwkv_time", "rwkv_channel")
CASES = Path(__file__).parents[2] / "conformance" / "cases"
LENGTHS = (5, 37, 70, 1, 64, 33)
Serve = Callable[..., list[Tensor]]


BY_KIND = [runpy.run_path(str(CASES / f"mixer_{kind}.py"))["CASES"] for kind in KINDS]
ALL: list[dict[str, Any]] = [case for cases in BY_KIND for case in cases]
FEW = [
    case if at == 0 else pytest.param(case, marks=pytest.mark.slow)
    for cases in BY_KIND
    for at, case in enumerate(cases)
]


def build(mixer: dict[str, Any], dtype: torch.dtype, dim: int = 32) -> Model:
    block = {"mixer": mixer, "ffn": {"kind": "swiglu", "hidden": 40}}
    config = {"vocab": 61, "dim": dim, "depth": 2, "layers": {"block": block}}
    return Model(ModelConfig.parse(config), seed=2).to(dtype)


def sequences() -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(0, 61, (n,), generator=generator) for n in LENGTHS]


@pytest.mark.parametrize("mixer", ALL, ids=str)
@torch.no_grad()
def test_float64_dense_equals_chunks_and_decode(mixer: dict[str, Any], serve: Serve) -> None:
    model, tokens = build(mixer, torch.float64), sequences()
    pool = Pool(model.memory(), 40, dtype=torch.float64)
    for ids, got in zip(tokens, serve(model, tokens, pool, 1, (1, 1, 2, 7, 33, 64)), strict=True):
        torch.testing.assert_close(got, model(ids[None])[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("mixer", FEW, ids=str)
@torch.no_grad()
def test_exact_numerics_are_bitwise_equal(mixer: dict[str, Any], dtype: torch.dtype, serve: Serve) -> None:
    model, tokens = build(mixer, dtype), sequences()
    with numerics("exact"):
        want = [model(ids[None])[0] for ids in tokens]
        for seed, chunks in enumerate([(1,), (1, 2, 33, 64)]):
            pool = Pool(model.memory(), 40, dtype=dtype)
            got = serve(model, tokens, pool, seed, chunks)
            assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("mixer", [case for case in ALL if len(case) == 1 or case.get("heads") == 4], ids=str)
@torch.no_grad()
def test_the_number_of_threads_changes_nothing(mixer: dict[str, Any]) -> None:
    model, tokens = build(mixer, torch.float32), torch.randint(0, 61, (64, 20))
    with numerics("exact"):
        one = model(tokens)
        torch.set_num_threads(2)
        try:
            assert torch.equal(model(tokens), one)
        finally:
            torch.set_num_threads(1)


@pytest.mark.parametrize("mixer", FEW, ids=str)
@torch.no_grad()
def test_fast_is_near_exact(mixer: dict[str, Any]) -> None:
    """The parallel form and the recurrent one, in double precision, over several chunks of the parallel one."""
    model, tokens = build(mixer, torch.float64), torch.randint(0, 61, (2, 200))
    fast = model(tokens)
    with numerics("exact"):
        torch.testing.assert_close(model(tokens), fast, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mixer", ALL, ids=str)
def test_memory_does_not_grow(mixer: dict[str, Any]) -> None:
    """The pool holds what `memory` declares, whatever the length, and the count of the model's size agrees."""
    model = build(mixer, torch.float32)
    pool = Pool(model.memory(), 40, dtype=torch.float32)
    slots = [pool.open(), pool.open()]
    with torch.no_grad():
        for slot, length in zip(slots, (3, 50), strict=True):
            pool.append(slot, length)
            model(torch.zeros(1, length, dtype=torch.int64), Paged(pool, [Row(slot, 0, length)]))
    memory = model.memory()
    assert all(isinstance(m, PerSequence) and m.dtype == torch.float32 for m in memory)
    per_row = sum(state.numel() * state.element_size() for state in pool.store.state.values()) // pool.store.rows
    size = count_model(model)
    assert size.state_bytes == per_row == sum(torch.Size(m.shape).numel() * 4 for m in memory)
    assert size.cache_numbers == 0 and size.mixing[0] == 0 and size.mixing[1] > 0
