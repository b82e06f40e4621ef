"""metrics.jsonl: one record per step, under the names that people know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from hanok.core.artifact import atomic_write
from hanok.core.log import Log, read_metrics
from hanok.train.hook import Hook, Record, due
from hanok.train.state import TrainState

Names = Literal["pretrain", "trl"]
PRETRAIN = {
    "loss": "train/loss",
    "learning_rate": "train/lr",
    "lr_factor": "train/lrm",
    "grad_norm": "train/grad_norm",
    "step_time": "train/dt",
    "tokens_per_second": "train/tok_per_sec",
    "mean_token_accuracy": "train/token_accuracy",
    "seconds": "total_training_time",
    "skipped": "train/skipped",
}


class Metrics(Hook):
    """Writes records, nanochat's names for pre-training and TRL's for all else.

    After a kill, records of steps that the checkpoint does not know are dropped before the run writes them again.
    """

    def __init__(self, log: Log, *, names: Names = "trl", every: int = 1) -> None:
        self.log, self.names, self.every = log, names, every

    def start(self, state: TrainState) -> None:
        """Drop what was written after the checkpoint."""
        if self.log.directory is not None:
            trim(self.log.directory / "metrics.jsonl", state.step)

    def after_step(self, state: TrainState, record: Record) -> None:
        """Write one record."""
        if not due(state.step, self.every) and state.step != state.steps:
            return
        if self.names == "pretrain":
            named = {PRETRAIN.get(name, name): value for name, value in record.items()}
            self.log.metrics(state.step, **named, max_steps=state.steps)
        else:
            self.log.metrics(state.step, global_step=state.step, **record, max_steps=state.steps)


def trim(path: Path, step: int) -> None:
    """Keep the records up to a step; a run that starts over keeps none."""
    records = read_metrics(path)
    kept = [record for record in records if 0 < step >= record.get("step", 0)]
    if len(kept) != len(records):
        atomic_write(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))
