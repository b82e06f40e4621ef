"""Validation: a callable that somebody hands in, every so many steps and at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hanok.core.log import Log, read_metrics
from hanok.train.hook import Hook, Record, due
from hanok.train.state import TrainState

Measure = Callable[[Any], Mapping[str, float]]


class Validate(Hook):
    """Calls `measure(model)` before the first step, every `every` steps and at the end, and logs what it returns.

    What is measured is the caller's business: the loop and this hook know no tokenizer and no task.
    """

    def __init__(self, measure: Measure, log: Log, *, every: int = 0) -> None:
        self.measure, self.log, self.every = measure, log, every
        self.last: dict[str, float] = {}
        self._step = -1

    def start(self, state: TrainState) -> None:
        """Measure the model that the run begins with."""
        if state.step == 0:
            self._measure(state)

    def after_step(self, state: TrainState, record: Record) -> None:
        """Measure when it is time."""
        if due(state.step, self.every):
            self._measure(state)

    def finish(self, state: TrainState) -> None:
        """Measure the model that the run ends with."""
        if self._step != state.step:
            self._measure(state)

    def _measure(self, state: TrainState) -> None:
        first = self._step < 0
        self.last, self._step = dict(self.measure(state.model)), state.step
        if not (first and self._known()):
            self.log.metrics(state.step, **self.last)

    def _known(self) -> bool:
        """Return whether an earlier life of this run has written the same measurement before it was killed."""
        if self.log.directory is None:
            return False
        records = read_metrics(self.log.directory / "metrics.jsonl")
        return any(record.get("step") == self._step and self.last.keys() <= record.keys() for record in records)
