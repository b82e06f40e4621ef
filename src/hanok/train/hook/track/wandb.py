"""Weights & Biases: to its service, or to local files under WANDB_MODE=offline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hanok.core.errors import require
from hanok.train.hook.track import TRACKERS
from hanok.train.hook.track.base import Tracked


@TRACKERS.register("wandb")
class WandB:
    """A run of the project `hanok` (WANDB_PROJECT names another), which a resumed run goes on with."""

    def __init__(self) -> None:
        self._package: Any = require("wandb", extra="wandb")
        self._run: Any = None

    def open(self, run: Tracked) -> None:
        """Begin the run, or go on with it: its identity is that of the folder and the settings."""
        self._run = self._package.init(
            project=os.environ.get("WANDB_PROJECT", "hanok"),
            name=run.name,
            id=run.identity,
            resume="allow",
            # Beside the run, not in it: its service writes on after the end, and a finished run's files are hashed.
            dir=os.environ.get("WANDB_DIR", str(run.folder.parent)),
            config=dict(run.config),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send a record; of a step that is told again the service keeps the first telling."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Wait until everything is sent."""
        self._run.finish()
