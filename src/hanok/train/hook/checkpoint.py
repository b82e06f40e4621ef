"""Checkpoints every so many steps or seconds, and at the end or when the run is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from hanok.train.hook import Hook, Record, due
from hanok.train.state import TrainState, save_checkpoint


class Checkpoint(Hook):
    """Saves the whole state; what a kill can lose is at most `every` steps or `seconds`, whichever comes first.

    A save that fails (a full disk) is said and counted, the last good checkpoint stays, and the run goes on; only the
    last save of a process must succeed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every: int = 0,
        seconds: float = 30.0,
        keep: int = 2,
        say: Callable[[str], None] = print,
    ) -> None:
        self.folder, self.every, self.seconds, self.keep, self.say = folder, every, seconds, keep, say
        self.failures = 0
        self._saved, self._when = -1, time.monotonic()

    def start(self, state: TrainState) -> None:
        """Count the interval from here."""
        self._saved, self._when = state.step, time.monotonic()

    def after_step(self, state: TrainState, record: Record) -> None:
        """Save when it is time."""
        if due(state.step, self.every) or time.monotonic() - self._when >= self.seconds:
            try:
                self._save(state)
            except (OSError, SafetensorError) as error:
                self.failures += 1
                self._when = time.monotonic()
                self.say(f"step {state.step}: the checkpoint could not be saved ({error}); the run goes on")

    def stop(self, state: TrainState) -> None:
        """Save where the run stands."""
        if state.step != self._saved:
            self._save(state)

    def _save(self, state: TrainState) -> None:
        save_checkpoint(state, self.folder, keep=self.keep)
        self._saved, self._when = state.step, time.monotonic()
