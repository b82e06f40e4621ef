"""From the parts of all units to the shards of a split: documents in the order of their keys, and `origins.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from hanok.core.artifact import atomic_write, file_sha256
from hanok.core.stage import remove
from hanok.text.data.origins import ORIGINS
from hanok.text.data.pipeline.encode import ORIGINS as PART_ORIGINS
from hanok.text.data.pipeline.encode import PIECE, PIECES, TOKENS
from hanok.text.data.pipeline.part import part_path
from hanok.text.data.shard import INDEX, write_shards

OPEN = 256  # files mapped at once
Mapped = npt.NDArray[Any]


class Pieces:
    """The pieces of all units, mapped rather than read: 33 bytes of each are held in memory."""

    def __init__(self, parts: Path, units: int, dtype: np.dtype[Any]) -> None:
        self._folders = [part_path(parts, unit) for unit in range(units)]
        tables = [np.fromfile(folder / PIECES, dtype=PIECE) for folder in self._folders]
        self.table: Mapped = np.concatenate(tables) if tables else np.zeros(0, dtype=PIECE)
        self._starts = np.cumsum([0, *(len(table) for table in tables)])
        self._map = lru_cache(maxsize=OPEN)(_mapped)
        self._dtype = dtype

    def order(self, *, valid: bool) -> npt.NDArray[np.int64]:
        """Return the numbers of a split's pieces, in the order of their keys."""
        numbers = np.flatnonzero(self.table["valid"] == int(valid))
        return numbers[np.argsort(self.table["key"][numbers], kind="stable")]

    def tokens(self, number: int) -> Mapped:
        """Return the tokens of a piece."""
        return self._slice(number, TOKENS, "tokens", self._dtype)

    def origin(self, number: int) -> bytes:
        """Return the line of a piece's origin."""
        return self._slice(number, PART_ORIGINS, "origin", np.dtype(np.uint8)).tobytes()

    def _slice(self, number: int, name: str, column: str, dtype: np.dtype[Any]) -> Mapped:
        unit = int(np.searchsorted(self._starts, number, side="right")) - 1
        start = int(self.table[column][number - 1]) if number > self._starts[unit] else 0
        return self._map(self._folders[unit] / name, dtype)[start : int(self.table[column][number])]


def assemble(path: Path, pieces: Pieces, numbers: Sequence[int] | npt.NDArray[np.int64], vocab_size: int) -> Any:
    """Write the shards and the origins of a split below `path`, and return the index."""
    remove(path)  # from a run that was stopped
    size = int(pieces.table["bytes"][numbers].sum())
    documents = (cast("Sequence[int]", pieces.tokens(int(number))) for number in numbers)
    index = write_shards(path, documents, vocab_size=vocab_size, num_bytes=size)
    with (path / ORIGINS).open("wb") as file:
        file.writelines(_lines(pieces, numbers))
    index["origins_sha256"] = file_sha256(path / ORIGINS)
    atomic_write(path / INDEX, json.dumps(index, indent=2) + "\n")
    return index


def _lines(pieces: Pieces, numbers: Sequence[int] | npt.NDArray[np.int64]) -> Iterator[bytes]:
    for number in numbers:
        yield pieces.origin(int(number))


def _mapped(file: Path, dtype: np.dtype[Any]) -> Mapped:
    return np.memmap(file, dtype=dtype, mode="r") if file.stat().st_size else np.zeros(0, dtype=dtype)
