"""Sources: one file per format; each cuts files into segments that a worker can read alone, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from hanok.core.errors import UsageError
from hanok.core.registry import Registry


@dataclass(frozen=True)
class Segment:
    """A part of a source: bytes from `start` to `stop` of a file, row groups of it, or one shard of a dataset."""

    source: str  # the word of its format
    path: str
    name: str  # what the ids of its documents begin with
    size: int  # bytes, by which units are filled
    start: int = 0
    stop: int = 0
    first: int = 1  # the number of its first row
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Row:
    """One row of a source: its fields, or what is wrong with it; `number` is its line in a file of lines."""

    number: int
    fields: dict[str, Any] | None
    size: int = 0  # bytes of a row without fields
    problem: str = ""  # in a phrase that is the same for all such rows
    detail: str = ""


class Source(Protocol):
    """Reads one format; memory holds one row, or one batch of rows, at a time."""

    def cut(self, path: str, name: str, *, size: int) -> Iterator[Segment]:
        """Yield segments of about `size` bytes that cover the whole in order."""
        ...

    def read(self, segment: Segment) -> Iterator[Row]:
        """Yield the rows of a segment."""
        ...


SOURCES: Registry[type[Source]] = Registry("data source", __name__)
HUB = "hf:"  # what a path begins with that names a Hugging Face dataset
FORMATS = {".txt": "txt", ".jsonl": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
COMPRESSED = (".gz", ".zst")
SUFFIXES = (
    ".txt",
    ".jsonl",
    ".parquet",
    *(suffix + packed for suffix in (".txt", ".jsonl", ".json") for packed in COMPRESSED),
)


def source_of(path: str) -> str:
    """Return the word of the source that reads a path."""
    if path.startswith(HUB):
        return "hf"
    plain = path
    for packed in COMPRESSED:
        plain = plain.removesuffix(packed)
    for suffix, word in FORMATS.items():
        if plain.endswith(suffix):
            return word
    raise UsageError(f"{path}: cannot read this kind of file (known: {', '.join(SUFFIXES)}, {HUB}NAME)")
