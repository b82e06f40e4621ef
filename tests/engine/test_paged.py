"""Paged equals Dense: the same model over whole sequences, and over ragged chunks with memory in shuffled pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.engine.layout import Row
from hanok.engine.local import LLM
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.context import Dense, PerToken
from hanok.ops.numerics import numerics

LENGTHS = (5, 37, 70, 1, 64, 45)
Serve = Callable[..., list[Tensor]]
Build = Callable[..., LLM]


def sequences(vocab: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(0, vocab, (n,), generator=generator) for n in LENGTHS]


@pytest.mark.parametrize("options", [{}, {"order": "shuffled"}, {"order": "shuffled", "page_size": 7}], ids=str)
@pytest.mark.parametrize("kind", ["gqa", "window", "rglru", "hybrid"])
@torch.no_grad()
def test_float64_dense_equals_chunks_and_decode(build: Build, kind: str, options: dict[str, Any], serve: Serve) -> None:
    model = build(kind).model
    tokens = sequences(model.config.vocab)
    pool = Pool(model.memory(), 120, dtype=torch.float64, **options)
    for ids, got in zip(tokens, serve(model, tokens, pool, 1, (1, 1, 2, 7, 33, 64)), strict=True):
        torch.testing.assert_close(got, model(ids[None])[0], rtol=1e-10, atol=1e-10)


def config(heads: int, kv_heads: int, head_dim: int, window: int | None) -> ModelConfig:
    position = "none" if head_dim % 2 else "rope"  # rope turns pairs
    sizes = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    mixer = {"kind": "gqa", **sizes, "window": window, "position": position}
    block = {"mixer": mixer, "ffn": {"kind": "swiglu", "hidden": 40}}
    return ModelConfig.parse({"vocab": 61, "dim": 24, "depth": 2, "layers": {"block": block}})


# heads, key heads, head size, window: groups of 1, 2, 3, 5 and 17 (more than a tile has rows), odd sizes
SHAPES = [(4, 4, 8, None), (4, 2, 6, 19), (6, 2, 10, None), (5, 1, 7, 33), (17, 1, 2, None), (3, 1, 34, 1)]


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@torch.no_grad()
def test_exact_attention_is_bitwise_equal(
    shape: tuple[int, int, int, int | None], dtype: torch.dtype, serve: Serve
) -> None:
    model = Model(config(*shape)).to(dtype)
    tokens = sequences(61)
    with numerics("exact"):
        want = [model(ids[None])[0] for ids in tokens]
        for seed, chunks in enumerate([(1,), (7, 31, 64), (1, 2, 33, 200)]):
            pool = Pool(model.memory(), 40, dtype=dtype, order="shuffled", seed=seed)
            got = serve(model, tokens, pool, seed, chunks)
            assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("kind", ["rglru", "hybrid"])
@torch.no_grad()
def test_exact_recurrence_is_bitwise_equal(build: Build, kind: str, dtype: torch.dtype, serve: Serve) -> None:
    model = build(kind, dtype, dim=40).model
    tokens = sequences(model.config.vocab)
    with numerics("exact"):
        want = [model(ids[None])[0] for ids in tokens]
        for seed, chunks in enumerate([(1,), (7, 31, 64), (1, 2, 33, 200)]):
            pool = Pool(model.memory(), 40, dtype=dtype, order="shuffled", seed=seed)
            got = serve(model, tokens, pool, seed, chunks)
            assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


@torch.no_grad()
def test_fast_numerics_do_differ(serve: Serve) -> None:
    """Control arm: without exact numerics the same comparison sees the batch in the bits."""
    model = Model(config(*SHAPES[0]))
    tokens = sequences(61)
    got = serve(model, tokens, Pool(model.memory(), 40, order="shuffled"), 1, (7, 31, 64))
    gap = max(float((g - model(ids[None])[0]).abs().max()) for g, ids in zip(got, tokens, strict=True))
    assert 0 < gap < 1e-4


@torch.no_grad()
def test_exact_needs_whole_blocks(serve: Serve) -> None:
    model = Model(config(*SHAPES[0]))
    with numerics("exact"), pytest.raises(UsageError, match="multiple of 32"):
        serve(model, sequences(61), Pool(model.memory(), 200, page_size=8), 1, (7,))


@pytest.mark.parametrize("kind", ["gqa", "window", "rglru", "hybrid"])
@torch.no_grad()
def test_fork_truncate_snapshot_equal_recomputing(build: Build, kind: str) -> None:
    model = build(kind).model
    tokens = torch.randint(0, model.config.vocab, (90,))
    pool = Pool(model.memory(), 60, page_size=16, dtype=torch.float64, order="shuffled")

    def read(slot: Any, ids: Tensor) -> Tensor:
        row = Row(slot, slot.length, len(ids))
        pool.append(slot, len(ids))
        out: Tensor = model(ids[None], Paged(pool, [row]))[0, -1]
        return out

    def want(ids: Tensor) -> Tensor:
        out: Tensor = model(ids[None])[0, -1]
        return out

    slot = pool.open()
    read(slot, tokens[:40])
    pool.snapshot(slot)
    twin = pool.fork(slot)
    saved = pool.dump(slot)
    close = lambda a, b: torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)  # noqa: E731
    close(read(twin, tokens[50:55]), want(torch.cat((tokens[:40], tokens[50:55]))))
    close(read(slot, tokens[40:70]), want(tokens[:70]))
    pool.truncate(slot, 40)
    close(read(slot, tokens[80:]), want(torch.cat((tokens[:40], tokens[80:]))))
    pool.truncate(twin, 40)  # the snapshot came with the fork
    close(read(twin, tokens[40:41]), want(tokens[:41]))
    again = pool.restore(saved)
    close(read(again, tokens[40:64]), want(tokens[:64]))
    pool.truncate(again, 0)
    close(read(again, tokens[:5]), want(tokens[:5]))
    pool.check()


def test_bytes_are_what_memory_declares(build: Build) -> None:
    model = build("hybrid", torch.float32).model
    pool = Pool(model.memory(), 30, page_size=16)
    pool.append(pool.open(), 30 * 16)
    layers, rows = model.memory(), len(pool.table)
    numbers = sum(31 * 16 * m.numbers if "heads" in vars(m) else rows * torch.Size(m.shape).numel() for m in layers)
    assert pool.store.bytes == 4 * numbers


@pytest.mark.parametrize("options", [{}, {"order": "shuffled"}], ids=str)
@torch.no_grad()
def test_long_contexts(build: Build, options: dict[str, Any], serve: Serve) -> None:
    """Beyond a thousand keys other kernels take over, and gathered batches are split."""
    model = build("gqa", context=4096).model
    tokens = [torch.randint(0, 97, (n,)) for n in (1500, 1301, 40)]
    pool = Pool(model.memory(), 120, dtype=torch.float64, **options)
    for ids, got in zip(tokens, serve(model, tokens, pool, 1, (1, 300, 1024)), strict=True):
        torch.testing.assert_close(got, model(ids[None])[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("order", ["linear", "shuffled"])
@torch.no_grad()
def test_shared_memory_keeps_no_values(mode: str, order: Any) -> None:
    """Where the value is the head of the key, one tensor serves as both (as latent attention wants)."""
    q, k = torch.randn(1, 70, 6, 8), torch.randn(1, 70, 2, 8)
    pool = Pool([PerToken(2, 8, 5, shared=True)], 20, order=order)
    parts: list[Tensor] = []
    slots = [pool.open(), pool.open()]
    with numerics(mode):
        want = Dense(torch.zeros(1, 70)).attend(0, q, k, k[..., :5], scale=0.3)
        for start, stop in [(0, 33), (33, 34), (34, 60), *((at, at + 1) for at in range(60, 70))]:
            for slot in slots:
                pool.append(slot, stop - start)
            ctx = Paged(pool, [Row(slot, start, stop - start) for slot in slots])
            double = [x[:, start:stop].repeat(1, 2, 1, 1) for x in (q, k, k[..., :5])]
            parts.append(ctx.attend(0, *double, scale=0.3).unflatten(1, (2, -1)))
    assert not pool.store.v
    for got in torch.cat(parts, 2).unbind(1):
        assert torch.equal(got, want) if mode == "exact" else torch.allclose(got, want, atol=1e-5)
