"""Reading a header front to back, with every length held against what is left of the file before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn, overload

import numpy as np
import numpy.typing as npt

from hanok.core.errors import UsageError
from hanok.model.gguf.layout import (
    ARRAY,
    BOOL,
    MAX_DEPTH,
    MAX_ENTRIES,
    MAX_HEADER,
    MAX_STRINGS,
    SCALARS,
    SMALLEST,
    STRING,
)

Value = np.generic | str | npt.NDArray[np.generic] | Sequence["Value"]


class Strings(Sequence[str]):
    """Many strings in little more memory than their bytes; each is decoded when it is asked for."""

    def __init__(self, data: bytes, ends: npt.NDArray[np.int64]) -> None:
        self._data, self._ends = data, ends

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        end = self._ends[index]  # an index beyond the end raises here, as a sequence must
        at = index % len(self)
        return self._data[self._ends[at - 1] if at else 0 : end].decode()


class Cursor:
    """A place in a file. Every fault is a `UsageError` that names the file, the place and what is wrong there."""

    def __init__(self, file: BinaryIO, path: Path, size: int) -> None:
        self.file, self.path, self.size = file, path, size
        self.at = 0
        self.strings_left, self.arrays_left = MAX_STRINGS, MAX_ENTRIES

    def fault(self, problem: str) -> NoReturn:
        """Refuse the file."""
        raise UsageError(f"{self.path} is not a sound GGUF file: {problem[:400]}")

    def require(self, count: int, what: str) -> None:
        """Refuse `count` bytes that the file, or an honest header, does not have."""
        if count > self.size - self.at:
            self.fault(
                f"{what} at byte {self.at:,} needs {count:,} bytes, but {self.size - self.at:,} are left in the file"
            )
        if self.at + count > MAX_HEADER:
            self.fault(f"{what} at byte {self.at:,} ends beyond the {MAX_HEADER:,} bytes that a header may have")

    def take(self, count: int, what: str) -> bytes:
        """Return the next bytes."""
        self.require(count, what)
        data = self.file.read(count)
        if len(data) != count:
            self.fault(f"it shrank while it was read ({what} at byte {self.at:,})")
        self.at += count
        return data

    def number(self, width: int, what: str) -> int:
        """Return the next unsigned number of `width` bytes."""
        return int.from_bytes(self.take(width, what), "little")

    def string(self, what: str, *, limit: int = MAX_HEADER) -> str:
        """Return the next string: eight bytes of length, then UTF-8."""
        length = self.number(8, f"the length of {what}")
        if length > limit:
            self.fault(f"{what} at byte {self.at:,} claims {length:,} bytes (at most {limit:,} are allowed)")
        return self._text(self.take(length, what), what)

    def value(self, kind: int, what: str, depth: int = 0) -> Value:
        """Return the next metadata value of a type."""
        if kind == STRING:
            return self.string(what)
        if kind == ARRAY:
            return self._array(what, depth)
        only: np.generic = self._scalars(kind, 1, what)[0]
        return only

    def count(self, width: int, each: int, what: str, limit: int) -> int:
        """Return the next count of things that take at least `each` bytes apiece."""
        found = self.number(width, f"the number of {what}")
        if found > limit:
            self.fault(f"it claims {found:,} {what} (at most {limit:,} are allowed)")
        self.require(found * each, f"a list of {found:,} {what}")
        return found

    def _array(self, what: str, depth: int) -> Value:
        if depth == MAX_DEPTH:
            self.fault(f"{what} holds arrays within arrays, more than {MAX_DEPTH} deep")
        self.arrays_left -= 1
        if self.arrays_left < 0:
            self.fault(f"it holds more than {MAX_ENTRIES:,} arrays")
        kind = self.number(4, f"the element type of {what}")
        if kind not in SMALLEST:
            self.fault(f"{what} has elements of the unknown value type {kind}")
        count = self.count(8, SMALLEST[kind], f"elements of {what}", MAX_HEADER)
        if kind == STRING:
            return self._strings(count, what)
        if kind == ARRAY:
            return [self._array(what, depth + 1) for _ in range(count)]
        return self._scalars(kind, count, what)

    def _scalars(self, kind: int, count: int, what: str) -> npt.NDArray[np.generic]:
        if kind not in SCALARS:
            self.fault(f"{what} has the unknown value type {kind}")
        data = self.take(count * SCALARS[kind].itemsize, what)
        if kind == BOOL and (bad := data.translate(None, b"\0\1")):
            self.fault(f"{what} is a truth value of {bad[0]} (only 0 and 1 are)")
        return np.frombuffer(data, SCALARS[kind])

    def _strings(self, count: int, what: str) -> Strings:
        self.strings_left -= count
        if self.strings_left < 0:
            self.fault(f"it holds more than {MAX_STRINGS:,} strings")
        data, ends = bytearray(), np.empty(count, np.int64)
        for index in range(count):
            piece = self.take(int.from_bytes(self.take(8, what), "little"), what)
            self._text(piece, what)
            data += piece
            ends[index] = len(data)
        return Strings(bytes(data), ends)

    def _text(self, data: bytes, what: str) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            self.fault(f"{what} before byte {self.at:,} is not UTF-8 ({error.reason})")
