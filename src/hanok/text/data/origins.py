"""Where documents came from: `origins.jsonl` beside token shards, one line per document in their order."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hanok.core.errors import UsageError, suggest

ORIGINS = "origins.jsonl"
BLOCK = 2**24  # bytes looked through at once


class Origins:
    """The id, source and metadata of each document; without the file, documents are named by their number."""

    def __init__(self, path: str | Path, documents: int) -> None:
        self.file, self.documents = Path(path) / ORIGINS, documents
        self.present = self.file.is_file() and self.file.stat().st_size > 0

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the record of every document in order."""
        if not self.present:
            yield from ({"id": str(number), "source": ""} for number in range(self.documents))
            return
        count = 0
        with self.file.open("rb") as lines:
            for count, line in enumerate(lines, 1):
                yield self._parse(line, count)
        if count != self.documents:
            raise UsageError(f"{self.file} has {count} lines for {self.documents} documents; prepare the data again")

    def of(self, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return the records of some documents, looked up without parsing the others."""
        if not self.present:
            return {number: {"id": str(number), "source": ""} for number in numbers}
        wanted = sorted(set(numbers))
        starts = {0: 0}  # where a wanted line begins: line n behind line break n - 1
        found = {}
        with self._mapped() as raw:
            seen = 0
            for start in range(0, len(raw), BLOCK):
                breaks = np.flatnonzero(np.frombuffer(raw[start : start + BLOCK], dtype=np.uint8) == ord("\n"))
                here = [number for number in wanted if seen < number <= seen + len(breaks)]
                starts |= {number: start + int(breaks[number - 1 - seen]) + 1 for number in here}
                seen += len(breaks)
                if wanted and wanted[-1] <= seen:
                    break
            for number in wanted:
                begin = starts.get(number, len(raw))
                if begin >= len(raw):
                    raise UsageError(f"{self.file} has no line for document {number}; prepare the data again")
                end = raw.find(b"\n", begin)
                found[number] = self._parse(raw[begin : end if end >= 0 else len(raw)], number + 1)
        return found

    def find(self, name: str) -> int | None:
        """Return the number of the document with an id; where there are no ids, the id is the number."""
        if not self.present:
            return int(name) if name.isdecimal() and int(name) < self.documents else None
        with self._mapped() as raw:
            # Both ways in which a JSON writer may spell the same text.
            for spelled in dict.fromkeys((json.dumps(name), json.dumps(name, ensure_ascii=False))):
                at = raw.find(spelled.encode())
                while at >= 0:
                    begin, end = raw.rfind(b"\n", 0, at) + 1, raw.find(b"\n", at)
                    number = sum(raw[i : min(i + BLOCK, begin)].count(b"\n") for i in range(0, begin, BLOCK))
                    if self._parse(raw[begin : end if end >= 0 else len(raw)], number + 1).get("id") == name:
                        return number
                    at = raw.find(spelled.encode(), at + 1)
        return None

    def column(self, key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return one number of every document's metadata."""
        values = []
        for number, record in enumerate(self.records()):
            metadata = record.get("metadata") or {}
            value = metadata.get(key)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                hint = "" if key in metadata else suggest(key, metadata)
                raise UsageError(f"{self.file}: document {number} has no number {key!r} in its metadata{hint}")
            values.append(float(value))
        return np.asarray(values, dtype=np.float64)

    @contextmanager
    def _mapped(self) -> Iterator[mmap.mmap]:
        with self.file.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            yield raw

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{self.file}, line {number}: not valid JSON: {error}") from None
        if not isinstance(record, dict) or not isinstance(record.get("id"), str):
            raise UsageError(f"{self.file}, line {number}: an origin is an object with a text 'id'")
        return record
