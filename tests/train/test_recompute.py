"""Activation checkpointing: the same gradients to the bit for every kind of block, and less memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.model.block import Block
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.router.sigmoid_group import SigmoidGroup
from hanok.text.batch import Batch
from hanok.train.loop import LoopConfig, accumulate, computing, train
from hanok.train.objective.base import CrossEntropy
from hanok.train.objective.clm import NextToken
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.recompute import recomputing
from hanok.train.schedule.constant import Constant
from hanok.train.state import TrainState

Tiny = Callable[..., Model]
CLM = NextToken(NextToken.Config())
FLAT = Constant(Constant.Config(warmup=0.0))
KINDS: dict[str, dict[str, Any]] = {
    "llama-tiny": {},
    "gpt-tiny": {},
    "mamba-tiny": {},
    "griffin-tiny": {"depth": 3},
    "moe-tiny": {},
    "bert": {"heads": 2},
    "transformer": {"heads": 2},
}
ROUTED = {
    "kind": "moe",
    "experts": 4,
    "expert": {"kind": "swiglu", "hidden": 16},
    "router": {"kind": "sigmoid_group", "per_token": 2, "balance": 0.1},
}


def gradients(model: Model, batch: Batch, config: LoopConfig, *, objective: Any = CLM) -> list[Tensor]:
    state = TrainState(model, AdamW(AdamWConfig(), model), None, 1)  # type: ignore[arg-type]
    with computing(config, state):
        figures = accumulate(state, objective, [batch], config)
    return [figures["loss"], *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_equal_to_the_bit(kind: str, every: int, tiny: Tiny, rows: Callable[..., Batch]) -> None:
    batch = rows(length=12)
    if kind == "transformer":
        batch = batch.with_columns(source=batch.tokens.flip(1))
    objective = CrossEntropy(NextToken.Config())
    for options in ({}, {"compute": "bfloat16"}) if every == 1 else ({},):
        plain = gradients(tiny(kind, **KINDS[kind]), batch, LoopConfig(**options), objective=objective)
        again = gradients(tiny(kind, **KINDS[kind]), batch, LoopConfig(recompute=every, **options), objective=objective)
        assert len(plain) == len(again)
        assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize("options", [{"numerics": "exact"}, {"compute": "float8"}], ids=str)
def test_with_exact_numerics_and_in_eight_bits(options: dict[str, Any], tiny: Tiny, rows: Callable[..., Batch]) -> None:
    build = lambda: tiny(dim=32, heads=2, kv_heads=1)  # noqa: E731
    plain = gradients(build(), rows(), LoopConfig(**options))
    again = gradients(build(), rows(), LoopConfig(recompute=1, **options))
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize("depths", [None, {"share": 0.5, "choice": "threshold"}, {"share": 0.5}], ids=str)
def test_routers_report_once(depths: dict[str, Any] | None, rows: Callable[..., Batch]) -> None:
    """Balance losses, their gradients and the loads that move biases are those of one computation."""
    block = {"mixer": {"kind": "gqa", "heads": 2}, "ffn": ROUTED, "depths": depths}
    config = ModelConfig.parse({"vocab": 32, "dim": 16, "depth": 3, "layers": {"block": block}})
    found = []
    for every in (0, 1):
        model = Model(config)
        found.append((gradients(model, rows(length=12), LoopConfig(recompute=every)), model))
    (plain, one), (again, two) = found
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    loads = [[m._loads for m in model.modules() if isinstance(m, SigmoidGroup)] for model in (one, two)]
    assert len(loads[0]) == 3
    assert all(torch.equal(a, b) for a, b in zip(*loads, strict=True))


def test_which_blocks_are_computed_twice(tiny: Tiny, rows: Callable[..., Batch]) -> None:
    for every, expected in ((0, [1, 1, 1, 1, 1]), (1, [2, 2, 2, 2, 2]), (2, [2, 1, 2, 1, 2]), (4, [2, 1, 1, 1, 2])):
        model, calls = tiny(depth=5), [0] * 5
        blocks = [block for block in model.modules() if isinstance(block, Block)]
        for layer, block in enumerate(blocks):

            def count(*args: Any, layer: int = layer, calls: list[int] = calls) -> None:
                calls[layer] += 1

            block.mixer.register_forward_pre_hook(count)
        with recomputing(model, every):
            CLM(model, rows())[0].backward()
        assert calls == expected
        assert all("forward" not in vars(block) for block in blocks)


def test_what_is_kept_for_the_gradient(tiny: Tiny, rows: Callable[..., Batch]) -> None:
    """Bytes of activations that autograd holds after the forward pass, counted one by one."""
    found = {}
    for every in (0, 1, 2):
        model = tiny(depth=6, dim=32)
        kept: dict[int, int] = {}
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def pack(x: Tensor, kept: dict[int, int] = kept, weights: set[int] = weights) -> Tensor:
            if x.untyped_storage().data_ptr() not in weights:
                kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with recomputing(model, every), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            loss, _ = CLM(model, rows(batch=8, length=32))
        found[every] = sum(kept.values())
        loss.backward()
    assert found[1] < 0.3 * found[0]
    assert found[1] < found[2] < 0.75 * found[0]


def test_it_trains_and_does_not_go_with_compiled_code(tiny: Tiny, counting: Any) -> None:
    finals = []
    for every in (0, 1):
        model = tiny()
        state = TrainState(model, AdamW(AdamWConfig(), model), counting(4), 6)
        train(state, CLM, FLAT, LoopConfig(recompute=every, accumulate=2))
        finals.append(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*finals, strict=True))
    with pytest.raises(UsageError, match="compile"):
        train(state, CLM, FLAT, LoopConfig(recompute=1, compile="model"))


PROGRAM = """
import json, resource, torch
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.train.objective.clm import NextToken
from hanok.train.recompute import recomputing
torch.set_num_threads(1)
model = Model(ModelConfig.preset("llama-tiny", vocab=64, dim=128, depth=12, context=512))
def step(batch, every):
    x = torch.randint(0, 64, (batch, 257))
    ones = torch.ones(batch, 256)
    rows = Batch(x[:, :-1], x[:, 1:], ones, torch.arange(256).expand(batch, -1))
    with recomputing(model, every):
        NextToken(NextToken.Config())(model, rows)[0].backward()
peaks = []
for batch, every in ((1, 0), (8, 1), (8, 3), (8, 0)):  # the peak of a process only grows: least first
    step(batch, every)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(json.dumps([peak - peaks[0] for peak in peaks[1:]]))
"""


@pytest.mark.slow
def test_memory_of_a_process() -> None:
    """The peak of a process above that of a small step: each block twice costs a fraction of keeping everything."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    full, _, none = json.loads(run.stdout)
    assert full < 0.4 * none
