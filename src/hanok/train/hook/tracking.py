"""Telling trackers what the log is told, without letting them harm a run."""

from __future__ import annotations

import contextlib
import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from hanok.core.log import Log
from hanok.train.hook import Hook
from hanok.train.hook.track import TRACKERS
from hanok.train.hook.track.base import Tracked, Tracker
from hanok.train.state import TrainState


class Tracking(Hook):
    """Opens the trackers of a run, hands them each record of its log, and closes them when the `with` ends.

    A tracker that fails is named once and told nothing more: a run is worth more than its picture. A package that
    is missing is said here, before anything is trained.
    """

    def __init__(self, names: Sequence[str], log: Log, config: Mapping[str, Any]) -> None:
        self.log, self.config = log, config
        kinds = names if log.directory is not None else ()  # of many processes one keeps a log
        self.trackers: dict[str, Tracker] = {name: TRACKERS[name]() for name in dict.fromkeys(kinds)}
        self._open: dict[str, Tracker] = {}

    def __enter__(self) -> Self:
        if self.trackers:
            self.log.listeners.append(self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.trackers:
            self.log.listeners.remove(self._hear)
        for name, tracker in list(self._open.items()):
            self._try(name, tracker.close)
        self._open = {}

    def start(self, state: TrainState) -> None:
        """Open the trackers, at the step that the run goes on from."""
        if self.log.directory is None:
            return
        folder = self.log.directory.resolve()
        name = folder.name.removesuffix(".partial")
        identity = hashlib.sha256(f"{folder.parent / name}\n{state.fingerprint}".encode()).hexdigest()[:16]
        run = Tracked(folder, name, identity, self.config, state.step)
        for kind, tracker in self.trackers.items():
            self._open[kind] = tracker
            self._try(kind, tracker.open, run)

    def _hear(self, step: int, values: Mapping[str, Any]) -> None:
        numbers = {
            name: float(value)
            for name, value in values.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }
        for kind, tracker in list(self._open.items()):
            self._try(kind, tracker.log, step, numbers)

    def _try(self, kind: str, act: Any, *arguments: Any) -> None:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what a command prints is its result, and nothing else
                act(*arguments)
        except Exception as error:  # whatever a service or its client may raise
            self._open.pop(kind, None)
            self.log.info(f"the tracker {kind} failed and is told nothing more: {type(error).__name__}: {error}")
