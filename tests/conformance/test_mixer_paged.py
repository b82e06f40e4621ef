"""What every mixer inherits in the engine: ragged chunks over shuffled pages are the same model as whole sequences."""

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
from hanok.engine.pool import Pool, Slot
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.model.size import count
from hanok.nn.context import PerSequence, PerToken
from hanok.ops.numerics import numerics

FOUND: list[list[dict[str, Any]]] = [
    runpy.run_path(str(file))["CASES"] for file in sorted((Path(__file__).parent / "cases").glob("mixer_*.py"))
]
CASES = [case for cases in FOUND for case in cases]
FEW = [  # of each mixer the first two
    case if at < 2 else pytest.param(case, marks=pytest.mark.slow) for cases in FOUND for at, case in enumerate(cases)
]
LENGTHS = (5, 37, 1, 70)
Serve = Callable[..., list[Tensor]]
CHUNKS = (1, 2, 33, 64)


def name(case: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in case.items())


def build(case: dict[str, Any], dtype: torch.dtype) -> Model:
    block = {"mixer": case, "ffn": {"kind": "swiglu", "hidden": 40}}
    config = ModelConfig.parse({"vocab": 31, "dim": 32, "depth": 2, "layers": {"block": block}})
    return Model(config, seed=3).to(dtype)


def sequences() -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(0, 31, (n,), generator=generator) for n in LENGTHS]


@pytest.mark.parametrize("case", CASES, ids=name)
@torch.no_grad()
def test_chunks_and_decode_equal_whole_sequences(case: dict[str, Any], serve: Serve) -> None:
    model, tokens = build(case, torch.float64), sequences()
    pool = Pool(model.memory(), 90, page_size=7, dtype=torch.float64, order="shuffled", seed=1)
    for ids, got in zip(tokens, serve(model, tokens, pool, 1, (1, 1, 2, 7, 33, 64)), strict=True):
        torch.testing.assert_close(got, model(ids[None])[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("case", FEW, ids=name)
@torch.no_grad()
def test_exact_numerics_are_bitwise_equal(case: dict[str, Any], dtype: torch.dtype, serve: Serve) -> None:
    model, tokens = build(case, dtype), sequences()
    with numerics("exact"):
        want = [model(ids[None])[0] for ids in tokens]
        pool = Pool(model.memory(), 40, dtype=dtype, order="shuffled")
        got = serve(model, tokens, pool, 0, CHUNKS)
        assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("case", FEW, ids=name)
@torch.no_grad()
def test_fork_truncate_snapshot_equal_recomputing(case: dict[str, Any]) -> None:
    model, tokens = build(case, torch.float64), sequences()[3]
    pool = Pool(model.memory(), 60, page_size=16, dtype=torch.float64, order="shuffled")

    def read(slot: Slot, ids: Tensor) -> Tensor:
        row = Row(slot, slot.length, len(ids))
        pool.append(slot, len(ids))
        out: Tensor = model(ids[None], Paged(pool, [row]))[0, -1]
        return out

    def want(*parts: Tensor) -> Tensor:
        out: Tensor = model(torch.cat(parts)[None])[0, -1]
        return out

    def close(a: Tensor, b: Tensor) -> None:
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)

    slot = pool.open()
    read(slot, tokens[:40])
    pool.snapshot(slot)
    twin = pool.fork(slot)
    close(read(twin, tokens[50:55]), want(tokens[:40], tokens[50:55]))
    close(read(slot, tokens[40:60]), want(tokens[:60]))
    pool.truncate(slot, 40)
    close(read(slot, tokens[55:]), want(tokens[:40], tokens[55:]))
    restored = pool.restore(pool.dump(twin))
    close(read(restored, tokens[:3]), want(tokens[:40], tokens[50:55], tokens[:3]))
    pool.check()


@pytest.mark.parametrize("case", CASES, ids=name)
@torch.no_grad()
def test_bytes_held_are_the_bytes_declared(case: dict[str, Any], serve: Serve) -> None:
    """What a sequence costs, by what the store allocates, equals what `memory()` and the size report say."""
    model = build(case, torch.float32)
    pool = Pool(model.memory(), 4, dtype=torch.float32)
    serve(model, [sequences()[3]], pool, 0, (64,))
    size = count(model.config)
    kept = 0
    for memory in model.memory():
        if isinstance(memory, PerToken):
            kept += memory.numbers * 4 * (pool.store.pages + 1) * pool.page_size
        else:
            assert isinstance(memory, PerSequence)
            kept += torch.Size(memory.shape).numel() * memory.dtype.itemsize * pool.store.rows
    assert pool.store.bytes == kept
    assert size.cache_numbers == sum(m.numbers for m in model.memory() if isinstance(m, PerToken))
