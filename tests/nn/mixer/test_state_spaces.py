"""What Mamba, Mamba-2 and Gated DeltaNet share: paged equals dense, the engine's tokens, speed over the recurrence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.engine.engine import Engine
from hanok.engine.layout import Row
from hanok.engine.local import LLM
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool
from hanok.engine.request import Request
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.ops.numerics import numerics

LENGTHS = (5, 37, 130, 1, 64)
Serve = Callable[..., list[Tensor]]
MIXERS: dict[str, dict[str, Any]] = {
    "mamba": {"kind": "mamba", "state": 5},
    "jamba": {"kind": "mamba", "state": 16, "norm": "rmsnorm", "bias": "all"},
    "mamba2": {"kind": "mamba2", "head_dim": 8, "groups": 2, "state": 12},
    "gated_deltanet": {"kind": "gated_deltanet", "heads": 2, "value_heads": 4, "head_dim": 6, "value_dim": 5},
}


def build(kind: str, dtype: torch.dtype = torch.float64, dim: int = 24) -> Model:
    """Return a stack of the mixer, of attention, and of the mixer alone without a feed-forward network."""
    ffn = {"kind": "swiglu", "hidden": 40}
    layers = {
        "state": {"mixer": MIXERS[kind], "ffn": ffn},
        "attention": {"mixer": {"kind": "gqa", "heads": 4}, "ffn": ffn},
        "alone": {"mixer": MIXERS[kind]},
    }
    config = {"vocab": 61, "dim": dim, "depth": 3, "layers": layers, "pattern": list(layers), "context": 256}
    return Model(ModelConfig.parse(config), seed=3).to(dtype)


def sequences() -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(0, 61, (n,), generator=generator) for n in LENGTHS]


@pytest.mark.parametrize("kind", MIXERS)
@torch.no_grad()
def test_float64_dense_equals_chunks_and_decode(kind: str, serve: Serve) -> None:
    model, tokens = build(kind), sequences()
    pool = Pool(model.memory(), 60, dtype=torch.float64, order="shuffled")
    for ids, got in zip(tokens, serve(model, tokens, pool, 1, (1, 1, 2, 7, 33, 70)), strict=True):
        torch.testing.assert_close(got, model(ids[None])[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("kind", MIXERS)
@torch.no_grad()
def test_exact_bits_are_equal(kind: str, dtype: torch.dtype, serve: Serve) -> None:
    model, tokens = build(kind, dtype, dim=40), sequences()
    with numerics("exact"):
        want = [model(ids[None])[0] for ids in tokens]
        for seed, chunks in enumerate([(1, 1, 1, 9), (7, 31, 64), (1, 2, 33, 200)]):
            pool = Pool(model.memory(), 40, dtype=dtype, order="shuffled", seed=seed)
            got = serve(model, tokens, pool, seed, chunks)
            assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("kind", MIXERS)
@torch.no_grad()
def test_fork_truncate_snapshot_equal_recomputing(kind: str) -> None:
    model, tokens = build(kind), torch.randint(0, 61, (90,))
    pool = Pool(model.memory(), 60, page_size=16, dtype=torch.float64, order="shuffled")

    def read(slot: Any, ids: Tensor) -> Tensor:
        row = Row(slot, slot.length, len(ids))
        pool.append(slot, len(ids))
        out: Tensor = model(ids[None], Paged(pool, [row]))[0, -1]
        return out

    def check(got: Tensor, ids: Tensor) -> None:
        torch.testing.assert_close(got, model(ids[None])[0, -1], rtol=1e-10, atol=1e-10)

    slot = pool.open()
    read(slot, tokens[:40])
    pool.snapshot(slot)
    twin, saved = pool.fork(slot), pool.dump(slot)
    check(read(twin, tokens[50:55]), torch.cat((tokens[:40], tokens[50:55])))
    check(read(slot, tokens[40:70]), tokens[:70])
    pool.truncate(slot, 40)
    check(read(slot, tokens[80:]), torch.cat((tokens[:40], tokens[80:])))
    again = pool.restore(saved)
    check(read(again, tokens[40:64]), tokens[:64])


@pytest.mark.parametrize("kind", MIXERS)
@torch.no_grad()
def test_the_engine_decodes_what_the_model_says(kind: str) -> None:
    llm = LLM(build(kind))
    prompts = [ids.tolist() for ids in sequences()]
    outputs = Engine(llm, page_order="shuffled", chunk=29, max_batch_tokens=90, num_pages=60).generate(
        [Request(prompt, 20, temperature=0.0) for prompt in prompts]
    )
    for prompt, output in zip(prompts, outputs, strict=True):
        whole = llm.model(torch.tensor([prompt + output.tokens]))[0]
        assert whole.argmax(-1)[len(prompt) - 1 : -1].tolist() == output.tokens
