"""Samples of what the model writes while it learns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hanok.core.artifact import atomic_write
from hanok.train.hook import Hook, Record, due
from hanok.train.state import TrainState


class Samples(Hook):
    """Calls `sample(model)` every so many steps and at the end, and adds what it returns to samples.jsonl."""

    def __init__(self, sample: Callable[[Any], Sequence[Mapping[str, Any]]], path: Path, *, every: int = 0) -> None:
        self.sample, self.path, self.every = sample, path, every
        self._step = -1

    def start(self, state: TrainState) -> None:
        """Drop samples of steps that the checkpoint does not know."""
        if self.path.is_file():
            # What follows the last line break was cut short by a kill; other separators may stand inside a sample.
            lines = [line + "\n" for line in self.path.read_text(encoding="utf-8").split("\n")[:-1]]
            kept = [line for line in lines if json.loads(line)["step"] <= state.step > 0]
            atomic_write(self.path, "".join(kept))
            self._step = json.loads(kept[-1])["step"] if kept else -1

    def after_step(self, state: TrainState, record: Record) -> None:
        """Sample when it is time."""
        if due(state.step, self.every):
            self._sample(state)

    def finish(self, state: TrainState) -> None:
        """Sample from the final model."""
        if self._step != state.step:
            self._sample(state)

    def _sample(self, state: TrainState) -> None:
        self._step = state.step
        with self.path.open("a", encoding="utf-8") as file:
            for item in self.sample(state.model):
                file.write(json.dumps({"step": state.step, **item}, ensure_ascii=False) + "\n")
