"""Jobs: what a worker is told, in JSON, and the function that does it, found by its word."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hanok.core.errors import HanokError, UsageError
from hanok.text.data.pipeline.part import Unit

ROOM = "hanok.text.data.pipeline"
TASKS = {"scan": f"{ROOM}.scan", "keep": f"{ROOM}.keep", "encode": f"{ROOM}.encode"}  # modules with `work(job)`


@dataclass(frozen=True)
class Job:
    """A task, its settings, and the folder in which the results of its units appear."""

    task: str
    config: dict[str, Any]
    folder: str

    @property
    def parts(self) -> Path:
        """Return the folder of this task's results."""
        return Path(self.folder) / self.task

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-able form."""
        return asdict(self)


class Worker:
    """Does the units of a job one after the other; an answer is JSON-able: what was counted, or the error."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = Job(**job)
        self._unit: Unit | None = None

    def __call__(self, unit: int) -> dict[str, Any]:
        """Return `{"unit": n}`, or with an `"error"` the words for the user and whether the input is to blame."""
        try:
            if self._unit is None:
                self._unit = importlib.import_module(TASKS[self._job.task]).work(self._job)
            self._unit(unit)
        except HanokError as error:
            return {"unit": unit, "error": str(error), "usage": isinstance(error, UsageError)}
        return {"unit": unit}


def check_answer(answer: dict[str, Any]) -> int:
    """Return the unit that an answer is about, or raise its error here."""
    if "error" in answer:
        raise (UsageError if answer["usage"] else HanokError)(answer["error"])
    return int(answer["unit"])
