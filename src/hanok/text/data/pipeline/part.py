"""Results of units on disk: a folder that appears whole, by one rename, or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hanok.core.durable import sync

RESULT = "result.json"
Unit = Callable[[int], dict[str, Any]]


def part_path(folder: Path, unit: int) -> Path:
    """Return where the result of a unit lies."""
    return folder / f"{unit:06d}"


def is_done(folder: Path, unit: int) -> bool:
    """Say whether a unit has a result."""
    return (part_path(folder, unit) / RESULT).is_file()


def result_of(folder: Path, unit: int) -> dict[str, Any]:
    """Return what a unit counted."""
    return dict(json.loads((part_path(folder, unit) / RESULT).read_text(encoding="utf-8")))


@contextmanager
def part(folder: Path, unit: int) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield a temporary folder and the result to fill in; both are published together when the block ends well.

    A unit may run twice (a machine that was thought lost comes back); the copies are equal, and the first one stays.
    """
    path = part_path(folder, unit)
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=folder))
    try:
        result: dict[str, Any] = {}
        yield work, result
        (work / RESULT).write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
        for item in (*work.iterdir(), work):
            sync(item)
        try:
            work.rename(path)
        except OSError:
            if not is_done(folder, unit):
                raise
        sync(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
