"""Hooks: what they write, and when."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hanok.core.log import Log, read_metrics
from hanok.model.model import Model
from hanok.train.hook import Hook
from hanok.train.hook import checkpoint as hook_module
from hanok.train.hook.checkpoint import Checkpoint
from hanok.train.hook.metrics import Metrics
from hanok.train.hook.progress import Progress
from hanok.train.hook.samples import Samples
from hanok.train.hook.validate import Validate
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.schedule.linear import Linear
from hanok.train.state import TrainState, checkpoints

Go = Callable[..., TrainState]


@pytest.fixture
def go(tiny: Callable[..., Model], counting: Any) -> Go:
    def run(*hooks: Hook, steps: int = 10) -> TrainState:
        model = tiny()
        state = TrainState(model, AdamW(AdamWConfig(lr=0.01), model), counting(), steps)
        train(state, NextToken(NextToken.Config()), Linear(Linear.Config()), LoopConfig(), hooks)
        return state

    return run


@pytest.mark.parametrize(
    ("names", "loss", "rate"), [("pretrain", "train/loss", "train/lr"), ("trl", "loss", "learning_rate")]
)
def test_metrics_use_the_names_that_people_know(names: Any, loss: str, rate: str, go: Go, tmp_path: Path) -> None:
    go(Metrics(Log(tmp_path, quiet=True), names=names, every=4))
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in records] == [4, 8, 10]
    assert all(record[loss] > 0 and record[rate] > 0 for record in records)
    assert records[-1]["num_tokens"] == 10 * 48


def test_the_console_line(go: Go) -> None:
    out = io.StringIO()
    go(Progress(Log(stream=out), "pretrain", show=["mean_token_accuracy"]))
    line = out.getvalue().splitlines()[0]
    for piece in ("pretrain step 00001/00010 (10.0%)", "| loss 3.", "| lrm ", "| gnorm ", "ms | tok/s ", "tok acc "):
        assert piece in line


def test_checkpoints_by_steps_and_at_the_end(go: Go, tmp_path: Path) -> None:
    go(Checkpoint(tmp_path / "a", every=4, seconds=1e9, keep=9))
    assert [path.name for path in checkpoints(tmp_path / "a")] == ["step-000004", "step-000008", "step-000010"]
    go(Checkpoint(tmp_path / "b", seconds=1e-9, keep=99))
    assert len(checkpoints(tmp_path / "b")) == 10


def test_validation_and_samples(go: Go, tmp_path: Path) -> None:
    log = Log(tmp_path, quiet=True)
    numbers = iter(range(100))
    validate = Validate(lambda model: {"val/loss": float(next(numbers))}, log, every=5)
    go(validate, Samples(lambda model: [{"text": "안녕"}], tmp_path / "samples.jsonl", every=7))
    assert [(r["step"], r["val/loss"]) for r in read_metrics(tmp_path / "metrics.jsonl")] == [
        (0, 0.0),
        (5, 1.0),
        (10, 2.0),
    ]
    assert validate.last == {"val/loss": 2.0}
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert rows == [{"step": 7, "text": "안녕"}, {"step": 10, "text": "안녕"}]


def test_a_save_that_fails_is_said_and_the_run_goes_on(go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full for a while: older checkpoints stay; if it is still full at the end, that is an error."""
    save, calls = hook_module.save_checkpoint, []

    def full(*args: Any, **kwargs: Any) -> Path:
        calls.append(1)
        if 2 <= len(calls) <= 3:
            raise OSError(28, "No space left on device")
        return save(*args, **kwargs)

    monkeypatch.setattr(hook_module, "save_checkpoint", full)
    said: list[str] = []
    hook = Checkpoint(tmp_path, every=2, seconds=1e9, keep=9, say=said.append)
    assert go(hook).step == 10
    assert hook.failures == 2 == len(said)
    assert "step 4: the checkpoint could not be saved" in said[0]
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000002", "step-000008", "step-000010"]
    monkeypatch.setattr(hook_module, "save_checkpoint", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        go(Checkpoint(tmp_path / "x", say=said.append))
