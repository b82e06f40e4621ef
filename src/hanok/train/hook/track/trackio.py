"""trackio: a local SQLite file, read with `trackio show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanok.core.errors import require
from hanok.train.hook.track import TRACKERS
from hanok.train.hook.track.base import Tracked


@TRACKERS.register("trackio")
class Trackio:
    """A run of the project `hanok` in trackio's own folder (TRACKIO_DIR); nothing leaves the machine."""

    def __init__(self) -> None:
        self._package: Any = require("trackio", extra="trackio")
        self._run: Any = None

    def open(self, run: Tracked) -> None:
        """Begin the run, or go on with the one of this name."""
        name = f"{run.name}-{run.identity[:8]}"
        self._run = self._package.init(project="hanok", name=name, resume="allow", config=dict(run.config))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write a record."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Wait until everything is written."""
        self._run.finish()
