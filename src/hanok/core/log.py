"""What a run says: `metrics.jsonl` for programs, one live line and summary lines on stderr for people."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

PLAIN_INTERVAL = 5.0
LIVE_INTERVAL = 0.1


class Log:
    """A run's two voices; `Log(None, quiet=True)` says nothing and keeps nothing.

    Progress is one live line on a terminal and a plain line about every five seconds elsewhere, so that a log file
    stays readable.
    """

    def __init__(self, directory: Path | None = None, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.directory = directory
        self.quiet = quiet
        self.stream = stream or sys.stderr
        self.listeners: list[Callable[[int, dict[str, Any]], None]] = []  # are told each record too
        self._live = not quiet and self.stream.isatty()
        self._last = 0.0
        self._width = 0

    def at(self, directory: Path) -> Log:
        """Return a log with the same voice that keeps its metrics in another directory."""
        return Log(directory, quiet=self.quiet, stream=self.stream)

    def metrics(self, step: int, **values: Any) -> None:
        """Append one record to `metrics.jsonl`, and tell it to whoever listens."""
        for listener in self.listeners:
            listener(step, values)
        if self.directory is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}, ensure_ascii=False) + "\n")

    def progress(self, text: str) -> None:
        """Show where the run is, not more often than is useful."""
        now = time.monotonic()
        if self.quiet or now - self._last < (LIVE_INTERVAL if self._live else PLAIN_INTERVAL):
            return
        self._last = now
        if self._live:
            self.stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def info(self, text: str) -> None:
        """Say one line that stays."""
        if self.quiet:
            return
        if self._live and self._width:
            self.stream.write("\r" + " " * self._width + "\r")
            self._width = 0
        self.stream.write(text + "\n")
        self.stream.flush()

    def done(self, stage: str, seconds: float, text: str) -> None:
        """Say that a stage is finished, with its figures."""
        self.info(f"✓ {stage} ({seconds:.0f} s) {text}")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a `metrics.jsonl`; a last line cut short by a kill is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records
