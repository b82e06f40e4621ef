"""The average of the weights: its formula, refused steps, exact resume, and what a run with one hands on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.core.log import Log, read_metrics
from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.train.config import TrainingConfig
from hanok.train.ema import EMA, EMAConfig
from hanok.train.hook import Hook, Record
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.run import Runner
from hanok.train.schedule.constant import Constant
from hanok.train.state import TrainState, checkpoints, resume, save_checkpoint

Tiny = Callable[..., Model]
CLM = NextToken(NextToken.Config())
FLAT = Constant(Constant.Config(warmup=0.0))
QUIET = Log(None, quiet=True)


def flat(model: Model) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


class Watch(Hook):
    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def after_step(self, state: TrainState, record: Record) -> None:
        self.seen.append(torch.cat([p.detach().flatten() for p in state.model.parameters()]))


@pytest.mark.parametrize("warmup", [True, False])
def test_is_the_average_of_its_formula(warmup: bool, tiny: Tiny, counting: Any) -> None:
    model = tiny()
    average, watch = EMA(EMAConfig(decay=0.8, warmup=warmup), model), Watch()
    expected = flat(model).double()
    state = TrainState(model, AdamW(AdamWConfig(lr=1e-2), model), counting(), 12)
    train(state, CLM, FLAT, LoopConfig(), [average, watch])
    for step, weights in enumerate(watch.seen, 1):
        kept = min(0.8, (1 + step) / (10 + step)) if warmup else 0.8
        expected = kept * expected + (1 - kept) * weights.double()
    average.settle()
    torch.testing.assert_close(flat(model).double(), expected, rtol=1e-5, atol=1e-6)


def test_a_refused_step_does_not_count(tiny: Tiny, counting: Any) -> None:
    class Sometimes(NextToken):
        calls = 0

        def __call__(self, policy: Any, batch: Batch) -> Any:
            loss, metrics = super().__call__(policy, batch)
            self.calls += 1
            return loss * (float("nan") if self.calls == 2 else 1.0), metrics

    model = tiny()
    average = EMA(EMAConfig(), model)
    state = TrainState(model, AdamW(AdamWConfig(), model), counting(), 4)
    train(state, Sometimes(NextToken.Config()), FLAT, LoopConfig(), [average])
    assert state.skipped == 1
    assert average.state()[1] == {"steps": 3}


def test_inside_gives_the_weights_back_to_the_last_bit(tiny: Tiny, counting: Any) -> None:
    model = tiny()
    average = EMA(EMAConfig(), model)
    state = TrainState(model, AdamW(AdamWConfig(lr=1e-2), model), counting(), 3)
    train(state, CLM, FLAT, LoopConfig(), [average])
    before = flat(model)
    with pytest.raises(ZeroDivisionError), average.inside():
        assert not torch.equal(flat(model), before)
        raise ZeroDivisionError
    assert torch.equal(flat(model), before)


def test_resume_is_bitwise(tiny: Tiny, counting: Any, tmp_path: Path) -> None:
    def start() -> tuple[TrainState, EMA]:
        model = tiny()
        average = EMA(EMAConfig(decay=0.9), model)
        state = TrainState(model, AdamW(AdamWConfig(lr=1e-2), model), counting(), 9)
        state.extra["ema"] = average
        return state, average

    whole, kept = start()
    train(whole, CLM, FLAT, LoopConfig(), [kept])
    first, cut = start()
    first.steps = 4
    train(first, CLM, FLAT, LoopConfig(), [cut])
    save_checkpoint(first, tmp_path)
    second, restored = start()
    assert resume(second, tmp_path) is not None
    second.steps = 9
    train(second, CLM, FLAT, LoopConfig(), [restored])
    ours, theirs = restored.state()[0], kept.state()[0]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(flat(second.model), flat(whole.model))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="has the shape"):
        EMA(EMAConfig(), tiny(dim=32)).restore(*kept.state())


def test_a_run_hands_on_the_average_and_keeps_the_raw_weights(tiny: Tiny, counting: Any, tmp_path: Path) -> None:
    """What is measured last is what is handed on; the checkpoint can go on from the raw weights."""
    rows = [counting(seed=99).next_batch()]

    def measure(model: Model) -> dict[str, float]:
        with torch.no_grad():
            return {"val/loss": float(CLM(model, rows[0])[0])}

    def run(ema: bool, steps: int, out: Path) -> tuple[Model, Record]:
        options: dict[str, Any] = {"steps": steps, "optimizer": {"kind": "adamw", "lr": 0.02}, "validate_every": 4}
        config = TrainingConfig.parse({**options, "ema": {"decay": 0.9} if ema else None, "schedule": "constant"})
        model = tiny()
        return model, Runner(config, out, QUIET, title="test").run(model, counting(), CLM, measure=measure)

    plain, _ = run(False, 20, tmp_path / "plain")
    averaged, record = run(True, 20, tmp_path / "ema")
    assert record["val/loss"] == measure(averaged)["val/loss"]
    assert record["val/loss_raw"] == measure(plain)["val/loss"]
    assert not torch.equal(flat(plain), flat(averaged))
    lines = [line for line in read_metrics(tmp_path / "ema" / "metrics.jsonl") if "val/loss" in line]
    assert [line["step"] for line in lines] == [0, 4, 8, 12, 16, 20]
    newest = checkpoints(tmp_path / "ema" / "checkpoints")[-1]
    again = tiny()
    average = EMA(EMAConfig(decay=0.9), again)
    config = TrainingConfig.parse(
        {"steps": 20, "optimizer": {"kind": "adamw", "lr": 0.02}, "validate_every": 4, "ema": {"decay": 0.9}}
        | {"schedule": "constant"}
    )
    state = TrainState(again, AdamW(AdamWConfig(lr=0.02), again), counting(), 20, fingerprint=config.digest())
    state.extra["ema"] = average
    assert resume(state, newest.parent) == newest
    assert torch.equal(flat(again), flat(plain))
    # A run that is finished, but whose result was not written yet, hands on the same.
    once_more, _ = run(True, 20, tmp_path / "ema")
    assert torch.equal(flat(once_more), flat(averaged))
