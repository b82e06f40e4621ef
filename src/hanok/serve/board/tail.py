"""Following a file of JSON lines that another process appends to, cuts off or writes anew."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

PRINT = 256  # bytes at the start and the end of what was read, by which a file is known again
CHUNK = 1 << 24  # bytes read at once


class Tail:
    """The objects of a file, each once, as they appear; `read` also says whether the file has begun anew.

    A line counts when its line break is there; one that is no JSON object is left out. A file is another file when
    its inode changed, when it is shorter than what was read, or when what was read is no longer in it: a run that was
    killed and resumed drops the records that its checkpoint does not know.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changed = 0.0  # when the file was last written, in seconds of the system's clock
        self._inode = self._position = 0
        self._head = self._last = b""

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the objects that are new, and whether they replace all earlier ones; a missing file has none."""
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                self.changed = found.st_mtime
                anew = self._position > 0 and not self._same(file, found)
                if anew or self._position == 0:
                    self._position, self._head, self._last = 0, b"", b""
                self._inode = found.st_ino
                file.seek(self._position)
                data = file.read(CHUNK)
        except OSError:  # not there (any more, or yet), or not ours to read: what is known stays
            return [], False
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        self._head = (self._head + whole)[:PRINT] if len(self._head) < PRINT else self._head
        self._last = (self._last + whole)[-PRINT:]
        return [record for line in whole.split(b"\n") if (record := parse(line)) is not None], anew

    def _same(self, file: Any, found: os.stat_result) -> bool:
        if found.st_ino != self._inode or found.st_size < self._position:
            return False
        file.seek(0)
        if file.read(len(self._head)) != self._head:
            return False
        file.seek(self._position - len(self._last))
        return bool(file.read(len(self._last)) == self._last)


def parse(line: bytes) -> dict[str, Any] | None:
    """Return the object on a line, with None for numbers that JSON does not have; None if there is no object."""
    try:
        record = json.loads(line, parse_constant=lambda word: None, parse_float=finite)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def finite(word: str) -> float | None:
    """Return a number, or None where it is too large for one: `1e999` is read as infinity otherwise."""
    value = float(word)
    return value if math.isfinite(value) else None
