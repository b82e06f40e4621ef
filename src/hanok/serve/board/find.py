"""Which folders are runs: those with a metrics.jsonl, some levels below the folders that were named."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

METRICS = "metrics.jsonl"
DEPTH = 4  # runs/quickstart/ladder-0a1b.partial/checkpoints/rung-2c3d
PARTIAL = ".partial"


def find_runs(roots: Sequence[Path]) -> dict[str, Path]:
    """Return the name of each run and its folder; a run keeps its name when it is finished and `.partial` falls away.

    Names are paths below the folder that was named, and begin with that folder's own name where there are several.
    """
    found: dict[str, Path] = {}
    for root in roots:
        for folder in _below(root, DEPTH):
            parts = folder.relative_to(root).parts
            if len(roots) > 1 or not parts:
                parts = (root.resolve().name, *parts)
            name = "/".join(part.removesuffix(PARTIAL) for part in parts)
            if name in found and _same_run(found[name], folder):
                folder = _newer(found[name], folder)
            elif name in found:
                name = str(folder)  # two folders of one name in different places
            found[name] = folder
    return found


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / METRICS).is_file():
        yield folder
    if depth == 0:
        return
    try:
        inner = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except OSError:  # gone since it was listed, or not ours to read
        return
    for path in inner:
        if not os.path.basename(path).startswith("."):
            yield from _below(Path(path), depth - 1)


def _same_run(one: Path, other: Path) -> bool:
    return str(one).replace(PARTIAL, "") == str(other).replace(PARTIAL, "")


def _newer(one: Path, other: Path) -> Path:
    """Return the folder that was written last: unfinished work may lie beside what an earlier run finished."""
    return max(one, other, key=lambda folder: _age(folder / METRICS))


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
