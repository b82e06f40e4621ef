"""Hooks: what happens around the steps of a run without the loop knowing about it."""

from __future__ import annotations

from collections.abc import Sequence

from hanok.text.batch import Batch
from hanok.train.state import TrainState

Record = dict[str, float]


class Hook:
    """Called by the loop; each method does nothing unless a hook overrides it."""

    def start(self, state: TrainState) -> None:
        """Before the first step of this process."""

    def after_step(self, state: TrainState, record: Record) -> None:
        """After each step, with its figures."""

    def skipped(self, state: TrainState, batches: Sequence[Batch], record: Record) -> None:
        """When a step is refused (not finite, or a spike), before the run goes on or ends."""

    def stop(self, state: TrainState) -> None:
        """After the last step of this process, finished or interrupted."""

    def finish(self, state: TrainState) -> None:
        """After the last step of the run, before `stop`."""


def due(step: int, every: int) -> bool:
    """Return whether a step is one of every so many; `every` 0 means never."""
    return every > 0 and step % every == 0
