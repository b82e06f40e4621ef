"""A mixture of experts through the engine: the bits of the training forward; packed, saved and loaded again."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

import hanok
from hanok.compress.apply import quantized
from hanok.compress.quantize.int8 import Int8
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Request
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.experts import Int8ExpertLinear
from hanok.ops.numerics import numerics

ROUTERS: dict[str, dict[str, Any]] = {
    "topk": {"kind": "topk", "per_token": 2},
    "sigmoid_group": {"kind": "sigmoid_group", "per_token": 3, "groups": 3, "groups_per_token": 2},
    "switch": {"kind": "switch"},
}


def build(router: dict[str, Any], dtype: torch.dtype) -> LLM:
    ffn = {
        "kind": "moe",
        "experts": 6,
        "router": router,
        "expert": {"kind": "swiglu", "hidden": 22},
        "shared": 18,
        "shared_gate": "sigmoid",
    }
    layers = {"block": {"mixer": {"kind": "gqa", "heads": 4, "kv_heads": 2}, "ffn": ffn}}
    config = {"vocab": 97, "dim": 40, "depth": 2, "context": 256, "layers": layers}
    return LLM(Model(ModelConfig.parse(config), seed=3).to(dtype))


def gap(llm: LLM, mode: str) -> float:
    """Return the largest difference between the forward's log-probs and the engine's, over ragged requests."""
    rng = random.Random(0)
    requests = [
        Request([rng.randrange(97) for _ in range(rng.randrange(1, 60))], 9, temperature=1.0, seed=i, logprobs=0)
        for i in range(16)
    ]
    outputs = Engine(llm, numerics=mode, page_order="shuffled", chunk=13, max_batch_tokens=70).generate(requests)
    worst = 0.0
    with numerics(mode):
        for output in outputs:
            want = llm.logprobs(torch.tensor([output.prompt_ids + output.tokens]))[0, output.prompt_tokens - 1 :]
            worst = max(worst, float((want - torch.tensor(output.logprobs)).abs().max()))
    return worst


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("router", ROUTERS)
def test_the_engine_has_the_forwards_bits(router: str, dtype: torch.dtype) -> None:
    assert gap(build(ROUTERS[router], dtype), "exact") == 0.0


def test_a_shared_capacity_shows() -> None:
    """Control arm: where tokens of a step share an expert's capacity, serving differs from training."""
    assert gap(build({"kind": "switch", "capacity": 1}, torch.float32), "exact") > 1e-3


@pytest.mark.parametrize("packed", [False, True], ids=["dense", "int8"])
def test_saved_and_loaded_it_is_the_same(packed: bool, tmp_path: Path) -> None:
    llm = build(ROUTERS["sigmoid_group"], torch.float32)
    for block in llm.model.blocks:
        block.get_buffer("ffn.router.bias").copy_(torch.linspace(-0.2, 0.2, 6))
    model, tokens = llm.model, torch.randint(0, 97, (2, 19))
    if packed:
        whole, model = model, quantized(model, Int8(Int8.Config()))
        assert isinstance(model.get_submodule("blocks.1.ffn.experts.up"), Int8ExpertLinear)
        assert 0 < (model(tokens) - whole(tokens)).norm() / whole(tokens).norm() < 0.1
    LLM(model).save(tmp_path)
    again = hanok.load(tmp_path).model
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(again(tokens), model(tokens))
