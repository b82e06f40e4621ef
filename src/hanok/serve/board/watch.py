"""The runs below some folders, read about once a second while somebody looks on, and told as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from hanok.serve.board.find import find_runs
from hanok.serve.board.run import Run

PULSE = 0.5  # seconds between two looks at the files of runs
SEARCH = 3.0  # seconds between two searches for new runs
BEAT = 15.0  # seconds after which a silent stream says that it is there
PORTION = 2000  # records in one event

Event = dict[str, Any]


class Watch:
    """What is known of all runs; `look` brings it up to date, however many readers ask."""

    def __init__(self, roots: Sequence[Path], *, pulse: float = PULSE, search: float = SEARCH) -> None:
        self.roots = list(roots)
        self.runs: dict[str, Run] = {}
        self.pulse, self.search = pulse, search
        self._searched = self._looked = float("-inf")
        self._lock = asyncio.Lock()

    def look(self) -> None:
        """Find runs that have appeared, forget those whose folder is gone, and read what is new."""
        now = time.monotonic()
        if now - self._searched >= self.search or any(not run.folder.is_dir() for run in self.runs.values()):
            self._searched = now
            found = find_runs(self.roots)
            self.runs = {name: self._run(name, folder) for name, folder in found.items()}
        for run in self.runs.values():
            run.read()
        self._looked = time.monotonic()

    def _run(self, name: str, folder: Path) -> Run:
        run = self.runs.get(name)
        if run is None:
            return Run(name, folder)
        if run.folder != folder:
            run.move(folder)
        return run

    async def news(self, reader: Reader) -> list[Event]:
        """Look, unless another reader just has, and return what is new to this one; nobody looks meanwhile."""
        async with self._lock:
            if time.monotonic() - self._looked >= self.pulse / 2:
                await asyncio.to_thread(self.look)
            return reader.news()

    async def events(self) -> AsyncIterator[bytes]:
        """Yield server-sent events: first all that is known, then what changes."""
        reader = Reader(self)
        told = time.monotonic()
        while True:
            for event in await self.news(reader):
                told = time.monotonic()
                # ASCII, because a sample may hold half a surrogate pair, which UTF-8 cannot.
                yield f"data: {json.dumps(event, allow_nan=False)}\n\n".encode("ascii")
            if time.monotonic() - told > BEAT:
                told = time.monotonic()
                yield b": still here\n\n"
            await asyncio.sleep(self.pulse)


class Reader:
    """How far one browser has read each run."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._seen: dict[str, tuple[int, int, int, str]] = {}
        self._first = True

    def news(self) -> list[Event]:
        """Return what the browser has not seen; its first news end with `ready`, so that it can draw once."""
        runs = dict(self.watch.runs)
        events: list[Event] = [{"gone": name} for name in self._seen if name not in runs]
        self._seen = {name: seen for name, seen in self._seen.items() if name in runs}
        for name, run in runs.items():
            events += self._of(name, run)
        if self._first:
            self._first = False
            events.append({"ready": True})
        return events

    def _of(self, name: str, run: Run) -> list[Event]:
        known = name in self._seen
        generation, records, samples, state = self._seen.get(name, (-1, 0, 0, ""))
        reset = generation != run.generation
        if reset:
            records = samples = 0
        now = run.state()
        rows, said = run.records.after(records), run.samples.after(samples)
        self._seen[name] = (run.generation, run.records.count, run.samples.count, now)
        if not (reset or rows or said or now != state or not known):
            return []
        first: Event = {"run": name, "reset": reset, "state": now, "records": rows[:PORTION], "samples": said}
        rest = [
            {"run": name, "reset": False, "state": now, "records": rows[at : at + PORTION], "samples": []}
            for at in range(PORTION, len(rows), PORTION)
        ]
        return [first, *rest]
