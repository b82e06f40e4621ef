"""Trackers are told what metrics.jsonl is told, once, over a resume too; one that fails harms nothing."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.core.errors import MissingExtraError, UsageError
from hanok.core.log import Log, read_metrics
from hanok.train.config import TrainingConfig
from hanok.train.hook.memory import peak_bytes
from hanok.train.hook.metrics import Metrics
from hanok.train.hook.track import TRACKERS
from hanok.train.hook.tracking import Tracking
from hanok.train.state import TrainState


class Fake:
    """wandb's and trackio's shape: init gives a run with log and finish."""

    def __init__(self, error: Exception | None = None) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []
        self.options: list[dict[str, Any]] = []
        self.finished = 0
        self.error = error

    def init(self, **options: Any) -> Fake:
        self.options.append(options)
        print("what trackio says to whoever reads along")
        return self

    def log(self, values: dict[str, float], *, step: int) -> None:
        if self.error is not None and step == 2:
            raise self.error
        self.told.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    for name in ("wandb", "trackio"):
        module = types.ModuleType(name)
        module.init = made.init  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    return made


def state_at(step: int) -> Any:
    """What hooks of figures look at."""
    return types.SimpleNamespace(step=step, steps=10, fingerprint="abc")


def live(names: tuple[str, ...], folder: Path, first: int, last: int, said: list[str] | None = None) -> Log:
    """One life of a run: from the step of a checkpoint on, with a validation at the end."""
    folder.mkdir(exist_ok=True)
    log = Log(folder, quiet=True)
    if said is not None:
        log.info = said.append  # type: ignore[method-assign]
    state: TrainState = state_at(first - 1)
    metrics = Metrics(log, names="pretrain")
    with Tracking(names, log, {"seed": 7}) as tracking:
        tracking.start(state)
        metrics.start(state)
        for step in range(first, last + 1):
            metrics.after_step(state_at(step), {"loss": 5.0 - step, "grad_norm": float("nan") if step == 3 else 1.0})
        log.metrics(last, **{"val/loss": 1.25})
    return log


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_is_told_what_the_file_is_told(fake: Fake, tmp_path: Path, name: str) -> None:
    log = live((name, name), tmp_path / "run-0a.partial", 1, 3)
    written = read_metrics(tmp_path / "run-0a.partial" / "metrics.jsonl")
    assert [step for step, _ in fake.told] == [record.pop("step") for record in written] == [1, 2, 3, 3]
    assert [values for _, values in fake.told[:2]] == written[:2] and fake.told[-1] == (3, {"val/loss": 1.25})
    assert set(fake.told[2][1]) == {"train/loss", "max_steps"}, "what is no number is not told"
    assert fake.finished == 1 and log.listeners == []
    live((name,), tmp_path / "run-0a.partial", 3, 4)
    first, second = fake.options
    assert first == second, "a resumed run goes on under its name"
    assert first["resume"] == "allow" and first["config"] == {"seed": 7} and first["name"].startswith("run-0a")
    (tmp_path / "run-0a.partial").rename(tmp_path / "run-0a")
    live((name,), tmp_path / "run-0a", 5, 5)
    assert fake.options[-1].get("id") == first.get("id") and fake.options[-1]["name"] == first["name"]


def test_tensorboard_itself_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    live(("tensorboard",), tmp_path / "run", 1, 5)
    live(("tensorboard",), tmp_path / "run", 4, 6)  # killed after step 5, resumed from the checkpoint of step 3
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    assert {"train/loss", "train/grad_norm", "val/loss"} <= set(found.Tags()["scalars"])
    assert [(event.step, event.value) for event in found.Scalars("train/loss")] == [(n, 5.0 - n) for n in range(1, 7)]
    assert [event.step for event in found.Scalars("val/loss")] == [6]


def test_a_tracker_that_fails_is_named_once_and_the_others_go_on(fake: Fake, tmp_path: Path) -> None:
    fake.error = OSError("no network")
    said: list[str] = []
    live(("wandb",), tmp_path / "run", 1, 4, said)
    assert len(said) == 1 and "wandb" in said[0] and "no network" in said[0]
    assert [step for step, _ in fake.told] == [1]
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 5


def test_what_a_tracker_prints_is_no_result(fake: Fake, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    live(("trackio",), tmp_path / "run", 1, 1)
    out, said = capfd.readouterr()
    assert out == "" and "reads along" in said


def test_trackers_are_closed_when_a_run_breaks(fake: Fake, tmp_path: Path) -> None:
    log = Log(tmp_path, quiet=True)
    with pytest.raises(ZeroDivisionError), Tracking(("trackio",), log, {}) as tracking:
        tracking.start(state_at(0))
        raise ZeroDivisionError
    assert fake.finished == 1 and log.listeners == []


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_missing_package_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"hanok\[{name}\]"):
        Tracking((name,), Log(tmp_path), {})
    assert Tracking((name,), Log(None), {}).trackers == {}, "of many processes one tracks"


def test_configuration() -> None:
    plain = TrainingConfig.parse({"steps": 1})
    tracked = TrainingConfig.parse({"steps": 1, "track": ["tensorboard", "wandb"]})
    assert tracked.track == ("tensorboard", "wandb") and tracked.digest() == plain.digest()
    with pytest.raises(UsageError, match="tensorboard"):
        TrainingConfig.parse({"steps": 1, "track": ["tensorbord"]})
    assert list(TRACKERS) == ["tensorboard", "trackio", "wandb"]


def test_memory_grows_with_what_is_held() -> None:
    before = peak_bytes(torch.device("cpu"))
    held = torch.ones(1 << 26)  # 256 MiB
    after = peak_bytes(torch.device("cpu"))
    assert before > 1 << 24 and after >= before and held.numel() == 1 << 26
