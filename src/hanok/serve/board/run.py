"""One run as the board knows it: its records in order, its samples, and whether it is still going."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hanok.core.artifact import MANIFEST
from hanok.serve.board.find import METRICS
from hanok.serve.board.names import figures
from hanok.serve.board.tail import Tail

MOST = 8000  # records of a run that are kept in full; of twice as many, every other old one goes
SAMPLES = 200  # the newest samples are kept
LIVE = 60.0  # seconds of silence after which a run counts as stopped, or ten of its steps, if that is longer

Figures = dict[str, float | None]


@dataclass
class Kept:
    """Rows with a number each, so that a reader can ask for what is newer than what it has seen."""

    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    count: int = 0

    def add(self, row: dict[str, Any]) -> None:
        """Keep one row more."""
        self.count += 1
        self.rows.append((self.count, row))

    def after(self, number: int) -> list[dict[str, Any]]:
        """Return the rows that are newer than a number."""
        at = len(self.rows)
        while at > 0 and self.rows[at - 1][0] > number:
            at -= 1
        return [row for _, row in self.rows[at:]]


class Run:
    """A run's folder, read as far as it is written; `generation` counts how often its record began anew."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.generation = 0
        self._open()

    def _open(self) -> None:
        self.records, self.samples = Kept(), Kept()
        self._metrics = Tail(self.folder / METRICS)
        self._said = Tail(self.folder / "samples.jsonl")
        self._pace = 0.0

    def move(self, folder: Path) -> None:
        """Go on in another folder: the run was finished and renamed, which changes nothing in its files."""
        self.folder = folder
        self._metrics.path = folder / METRICS
        self._said.path = folder / "samples.jsonl"

    def read(self) -> None:
        """Take in what is new."""
        rows, anew = self._metrics.read()
        if anew:
            self.generation += 1
            self.records, self.samples = Kept(), Kept()
            self._said = Tail(self.folder / "samples.jsonl")
        for row in rows:
            record = figures(row)
            if record is not None:
                self._pace = record.get("step_time") or self._pace
                self.records.add(record)
        if len(self.records.rows) > 2 * MOST:
            self.records.rows = thinned(self.records.rows)
        said, rewritten = self._said.read()
        if rewritten:
            self.generation += 1
            self.samples = Kept()
        for sample in said:
            self.samples.add(sample)
        del self.samples.rows[:-SAMPLES]

    def state(self, now: float | None = None) -> str:
        """Return "done", "live" or "stopped"; what was not written to for a while has stopped, or stands still."""
        if (self.folder / MANIFEST).is_file():
            return "done"
        silence = (time.time() if now is None else now) - self._metrics.changed
        return "live" if silence < max(LIVE, 10 * self._pace) else "stopped"


def thinned(rows: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, dict[str, Any]]]:
    """Return rows without every other one of the older half; validations, refused steps and the first row stay."""
    half = len(rows) // 2
    kept = rows[:1]
    for place in range(1, half):
        row, before = rows[place][1], rows[place - 1][1]
        if place % 2 == 0 or row.get("loss") is None or row.get("skipped") != before.get("skipped"):
            kept.append(rows[place])
    return kept + rows[half:]
