"""Between the passes: who is whose copy, decided over the signatures of all units in order, by one process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hanok.core.artifact import atomic_write
from hanok.text.data.dedup import copies
from hanok.text.data.pipeline.part import part_path, result_of
from hanok.text.data.pipeline.scan import IDS
from hanok.text.data.pipeline.steps import Signature, Twins

COPIES, FINISHED = "copies", "finished"
Numbers = npt.NDArray[np.int64]


def find_copies(work: Path, units: int, twins: Sequence[Twins]) -> None:
    """Write for each unit which of its documents are copies: {place among the kept: [step, reason, id of the first]}.

    Signatures are mapped files; memory holds what the comparison needs of one key, and the copies that are found.
    """
    folder, scans = work / COPIES, work / "scan"
    if (folder / FINISHED).is_file():
        return
    sizes = [int(result_of(scans, unit)["kept"]) for unit in range(units)]
    starts = np.cumsum([0, *sizes])
    gone: dict[int, tuple[Twins, int]] = {}
    for step in twins:
        numbers = np.setdiff1d(np.arange(starts[-1]), np.fromiter(gone, np.int64, len(gone)), assume_unique=True)
        first = copies(_joined(work, sizes, step, numbers), words=step.maker.words)
        for place in np.flatnonzero(first != np.arange(len(first))):
            gone[int(numbers[place])] = (step, int(numbers[first[place]]))
    ids = _ids(scans, sizes, {first for _, first in gone.values()})
    dropped = sorted(gone)
    for unit in range(units):
        low, high = np.searchsorted(dropped, [starts[unit], starts[unit + 1]])
        here = {
            str(number - int(starts[unit])): [gone[number][0].name, gone[number][0].reason, ids[gone[number][1]]]
            for number in dropped[low:high]
        }
        atomic_write(copies_file(work, unit), json.dumps(here, ensure_ascii=False))
    atomic_write(folder / FINISHED, "")


def copies_file(work: Path, unit: int) -> Path:
    """Return the file that says which documents of a unit are copies."""
    return work / COPIES / f"{unit:06d}.json"


def _joined(work: Path, sizes: Sequence[int], twins: Twins, numbers: Numbers) -> Signature:
    """Return the signatures of some documents, (documents, width), from all units in order, as a map of a file."""
    file, start = work / COPIES / f"{twins.name}.bin", 0
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as joined:
        for unit, size in enumerate(sizes):
            low, high = np.searchsorted(numbers, [start, start + size])
            part = part_path(work / "scan", unit) / f"{twins.name}.bin"
            joined.write(_mapped(part, twins.width)[numbers[low:high] - start].tobytes())
            start += size
    return _mapped(file, twins.width)


def _mapped(file: Path, width: int) -> Signature:
    if not file.stat().st_size:
        return np.zeros((0, width), dtype=np.uint64)
    return np.memmap(file, dtype="<u8", mode="r").reshape(-1, width)


def _ids(scans: Path, sizes: Sequence[int], wanted: set[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    number = 0
    for unit, size in enumerate(sizes):
        if wanted.isdisjoint(range(number, number + size)):
            number += size
            continue
        with (part_path(scans, unit) / IDS).open(encoding="utf-8") as file:
            for line in file:
                if number in wanted:
                    found[number] = json.loads(line)
                number += 1
    return found
