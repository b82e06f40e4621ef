"""What a run will read: told to its stream once the number of steps is known, and written down for later questions."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from safetensors.torch import save

from hanok.core.artifact import atomic_write
from hanok.core.errors import UsageError
from hanok.core.log import read_metrics
from hanok.text.batch import Batch
from hanok.text.data.history import History
from hanok.text.data.sources import Layout, MixtureConfig, moved, open_stream, relative
from hanok.text.data.stream import RowStream
from hanok.train.config import TrainingConfig
from hanok.train.hook import Hook
from hanok.train.state import TrainState

FILE = "data.json"


@dataclass(frozen=True)
class RunData:
    """Everything that the order of a run's rows follows from; `tokens` is seen from the run's folder."""

    tokens: str
    mixture: dict[str, Any]
    length: int
    batch: int
    accumulate: int
    seed: int
    packing: bool
    steps: int = 0
    fingerprint: str = ""

    @classmethod
    def of(cls, config: TrainingConfig, mixture: MixtureConfig, packing: bool, tokens: Path, out: Path) -> Self:
        """Return what a configuration says about its data."""
        return cls(
            relative(tokens, out),
            moved(mixture, lambda path: relative(path, out)).to_dict(),
            config.length,
            config.batch,
            config.loop.accumulate,
            config.seed,
            packing,
        )


class DataPlan(Hook):
    """Spreads schedules over the run's steps, and writes data.json."""

    def __init__(self, out: Path, stream: RowStream, data: RunData) -> None:
        self.out, self.stream, self.data = out, stream, data

    def start(self, state: TrainState) -> None:
        """Tell the stream how many rows the run takes."""
        self.stream.span(state.steps * self.data.accumulate * self.data.batch)
        if state.ranks.rank == 0:
            data = replace(self.data, steps=state.steps, fingerprint=self.stream.fingerprint())
            atomic_write(self.out / FILE, json.dumps(asdict(data), indent=2, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Told:
    """A run's history, how many of its steps it has taken, and the number of the batch that comes next."""

    history: History
    steps: int
    done: int
    next: int


def open_history(path: Path, *, data: Path | None = None, verify: bool = False) -> Told:
    """Return the history of a run, from its folder or from one of its checkpoints; `data` is where its data is now."""
    run, step = path, None
    if (path / "state.json").is_file():
        run, step = path.parent.parent, _checkpoint_step(path / "state.json")
    told = _read(run / FILE)
    tokens = data if data is not None else (run / told.tokens).resolve()
    if not tokens.exists():
        raise UsageError(f"the data of this run is not at {tokens}: say where with --data")
    layout = Layout(told.length, told.batch, told.seed, told.packing)
    mixture = moved(MixtureConfig.parse(told.mixture), lambda inner: str((run / inner).resolve()))
    stream = open_stream(mixture, tokens, layout, verify=verify)
    if stream.fingerprint() != told.fingerprint:
        raise UsageError(f"the data at {tokens} is not what {run} was trained on")
    per_step = told.batch * told.accumulate
    stream.span(told.steps * per_step)
    records = read_metrics(run / "metrics.jsonl") if (run / "metrics.jsonl").is_file() else []
    done = max((int(record["step"]) for record in records), default=0) if step is None else step
    return Told(History(stream, per_step), told.steps, done, min(done + 1, told.steps))


def save_batch(batch: Batch, file: Path) -> Path:
    """Write a batch's tensors to a safetensors file."""
    tensors = {"tokens": batch.tokens, "targets": batch.targets, "weights": batch.weights, "positions": batch.positions}
    if batch.segments is not None:
        tensors["segments"] = batch.segments
    atomic_write(file, save(tensors))
    return file


def _read(file: Path) -> RunData:
    try:
        return RunData(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UsageError(
            f"{file} does not exist: {file.parent} is no run of pretrain, or of an older version"
        ) from None
    except (ValueError, TypeError) as error:
        raise UsageError(f"{file} is damaged: {error}") from None


def _checkpoint_step(file: Path) -> int:
    try:
        return int(json.loads(file.read_text(encoding="utf-8"))["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is damaged: {error!r}") from None
