"""Checkpoints every so many steps or seconds, and at the end or when the run is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from hanok.core.claim import Claim
from hanok.core.errors import HanokError
from hanok.train.checkpoint.folder import NotRemoved
from hanok.train.checkpoint.ranks import agree, any_rank
from hanok.train.hook import Hook, Record, due
from hanok.train.state import TrainState, save_checkpoint


class Checkpoint(Hook):
    """Saves the whole state; what a kill can lose is at most `every` steps or `seconds`, whichever comes first.

    A save that fails (a full disk) is said and counted in `failures`, older checkpoints all stay, and the run goes on;
    only the last save of a process must succeed. `claim` shows whether another job has taken the folder over.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every: int = 0,
        seconds: float = 30.0,
        keep: int = 2,
        claim: Claim | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.folder, self.every, self.seconds, self.keep, self.say = folder, every, seconds, keep, say
        self.claim = claim
        self.failures = 0
        self._saved, self._when = -1, time.monotonic()

    def start(self, state: TrainState) -> None:
        """Count the interval from here."""
        self._saved, self._when = state.step, time.monotonic()

    def after_step(self, state: TrainState, record: Record) -> None:
        """Save when it is time, on all ranks when it is so on one."""
        late = any_rank(time.monotonic() - self._when >= self.seconds)
        if late or due(state.step, self.every):
            self._check()
            try:
                self._save(state)
            except (OSError, HanokError) as error:
                self._failed(state, error)

    def stop(self, state: TrainState) -> None:
        """Save where the run stands."""
        if state.step != self._saved:
            self._check()
            try:
                self._save(state)
            except NotRemoved as error:
                self._failed(state, error)

    def _save(self, state: TrainState) -> None:
        try:
            save_checkpoint(state, self.folder, keep=self.keep)
        except NotRemoved:
            self._saved = state.step
            raise
        self._saved, self._when = state.step, time.monotonic()

    def _failed(self, state: TrainState, error: Exception) -> None:
        self.failures += 1
        self._when = time.monotonic()
        kept = isinstance(error, NotRemoved)
        what = "older checkpoints could not be removed" if kept else "the checkpoint could not be saved"
        self.say(f"step {state.step}: {what} ({error}); the run goes on (failures so far: {self.failures})")

    def _check(self) -> None:
        error = None
        try:
            if self.claim is not None:
                self.claim.check()
        except HanokError as taken:
            error = taken
        agree(error, HanokError)
