"""Training with 8-bit products: it learns, resumes to the bit, keeps what is kept, and puts everything back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.nn.linear import Linear
from hanok.text.batch import Batch
from hanok.train.float8 import Float8Config, Float8Layers
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.schedule.constant import Constant
from hanok.train.state import TrainState, resume, save_checkpoint

Tiny = Callable[..., Model]
CLM = NextToken(NextToken.Config())
FLAT = Constant(Constant.Config(warmup=0.0))
DIALS = {"dim": 32, "heads": 2, "kv_heads": 1}


def run(model: Model, source: Any, steps: int, config: Float8Config, folder: Path | None = None) -> TrainState:
    layers = Float8Layers(model, config)
    state = TrainState(model, AdamW(AdamWConfig(lr=1e-2), model), source, steps, extra={"float8": layers})
    if folder is not None:
        resume(state, folder)
    state.steps = steps
    train(state, CLM, FLAT, LoopConfig(compute="float8"), [layers])
    return state


@pytest.mark.parametrize(
    "spec", [pytest.param({}, marks=pytest.mark.slow), {"scale": "row"}, {"amax": "delayed", "history": 4}], ids=str
)
def test_it_learns(spec: dict[str, Any], tiny: Tiny, counting: Any) -> None:
    model = tiny(**DIALS)
    state = TrainState(model, AdamW(AdamWConfig(lr=3e-2), model), counting(8), 25)
    found = train(state, CLM, FLAT, LoopConfig(compute="float8", float8=Float8Config(**spec)))
    assert found["loss"] < 2.0  # log 32 = 3.5 before


@pytest.mark.parametrize("spec", [{}, {"amax": "delayed", "history": 4}], ids=str)
def test_resuming_is_exact(spec: dict[str, Any], tiny: Tiny, counting: Any, tmp_path: Path) -> None:
    config = Float8Config(**spec)
    whole = run(tiny(**DIALS), counting(4), 8, config)
    half = run(tiny(**DIALS), counting(4), 5, config)
    save_checkpoint(half, tmp_path)
    again = run(tiny(**DIALS), counting(4), 8, config, tmp_path)
    assert again.step == 8
    for ours, theirs in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_which_layers_multiply_in_eight_bits(tiny: Tiny, rows: Callable[..., Batch]) -> None:
    model = tiny(**DIALS)
    layers = Float8Layers(model, Float8Config(keep=("head", "blocks.0.*")))
    linears = {name for name, part in model.named_modules() if isinstance(part, Linear)}
    assert set(layers.products) == {name for name in linears if name.startswith("blocks.1.")}
    before = copy.deepcopy(model.state_dict())
    with layers.attached():
        loss, _ = CLM(model, rows())
        with torch.no_grad():
            assert torch.equal(CLM(model, rows())[0], CLM(tiny(**DIALS), rows())[0])
    assert not torch.equal(loss, CLM(model, rows())[0])
    assert all("product" not in vars(part) for part in model.modules())
    assert before.keys() == model.state_dict().keys()


def test_what_cannot_be_is_said(tiny: Tiny, counting: Any) -> None:
    with pytest.raises(UsageError, match=r"keep.*'haed' fits no layer"):
        Float8Layers(tiny(**DIALS), Float8Config(keep=("haed",)))
    with pytest.raises(UsageError, match="needs 'tensor'"):
        Float8Layers(tiny(**DIALS), Float8Config(scale="row", amax="delayed"))
    with pytest.raises(UsageError, match="multiples of 16"):
        Float8Layers(tiny(**DIALS), Float8Config(keep=("*",)))
    model = tiny(**DIALS)
    state = TrainState(model, AdamW(AdamWConfig(), model), counting(4), 2)
    with pytest.raises(UsageError, match="exact numerics"):
        train(state, CLM, FLAT, LoopConfig(compute="float8", numerics="exact"))
    with pytest.raises(UsageError, match="compile"):
        train(state, CLM, FLAT, LoopConfig(compute="float8", compile="model"))
