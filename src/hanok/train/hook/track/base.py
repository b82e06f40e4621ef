"""What a tracker is: opened when a run begins or goes on, told every record, closed however the run ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Tracked:
    """A run as trackers know it; `identity` is shared by all its lives, `step` is the last one a checkpoint knows."""

    folder: Path
    name: str
    identity: str
    config: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0


class Tracker(Protocol):
    """Made before anything else happens, so that a package that is missing is said at once."""

    def __init__(self) -> None: ...

    def open(self, run: Tracked) -> None:
        """Begin, or go on after the step of a checkpoint: what was told of later steps will be told again."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take one record, under the names of metrics.jsonl."""

    def close(self) -> None:
        """Write out what is held back; called once after `open`."""
