"""The container: metadata and a list of tensors, checked whole before any tensor is read.

Read with positioned reads and not through a mapping: what a tensor costs in memory is then what it says, and a file
that shrinks meanwhile is an error, not the death of the process. The layout is that of ggml's docs/gguf.md.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, Self

import numpy as np
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.model.gguf.cursor import Cursor, Strings, Value
from hanok.model.gguf.layout import (
    ALIGNMENT,
    MAGIC,
    MAX_ALIGNMENT,
    MAX_DIMS,
    MAX_ENTRIES,
    MAX_NAME,
    SMALLEST_ENTRY,
    SMALLEST_TENSOR,
    UNREAD,
    VERSIONS,
)
from hanok.model.gguf.quant import FORMATS, Format

CHUNK = 1 << 18  # numbers unpacked at a time: the copies on the way stay in the cache, and out of the peak


@dataclass(frozen=True)
class Stored:
    """A tensor of the file: its shape as torch counts (rows first), its format, and where its bytes are."""

    name: str
    shape: tuple[int, ...]
    format: Format
    offset: int

    @property
    def nbytes(self) -> int:
        """Return the bytes it takes in the file."""
        return self.format.nbytes(math.prod(self.shape))


class GGUF:
    """An open file: `metadata`, `tensors`, and `read`, which unpacks one tensor."""

    def __init__(
        self, file: BinaryIO, path: Path, metadata: Mapping[str, Value], tensors: Mapping[str, Stored]
    ) -> None:
        self.file, self.path, self.metadata, self.tensors = file, path, metadata, tensors

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read and check everything but the tensors' numbers."""
        path = Path(path)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # before opening: a pipe would wait for its writer for ever
                raise UsageError(f"{path} is not a file")
            file = path.open("rb")
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
        try:
            return cls(file, path, *_read_header(Cursor(file, path, os.fstat(file.fileno()).st_size)))
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def refuse(self, problem: str) -> NoReturn:
        """Refuse a sound container whose content is not one that we can use."""
        raise UsageError(f"{self.path}: {problem[:400]}")

    def read(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return a tensor's numbers; beside them, only a chunk's worth of memory is used."""
        stored = self.tensors[name]
        format = stored.format
        out = torch.empty(math.prod(stored.shape), dtype=dtype)
        self.file.seek(stored.offset)
        step = CHUNK // format.block * format.block
        for start in range(0, len(out), step):
            count = min(step, len(out) - start)
            data = self.file.read(format.nbytes(count))
            if len(data) != format.nbytes(count):
                self.refuse(f"it shrank while {name} was read")
            blocks = np.frombuffer(data, np.uint8).reshape(-1, format.size)
            with np.errstate(all="ignore"):  # a hostile scale makes infinities, which are numbers too
                out[start : start + count] = torch.from_numpy(format.decode(blocks).reshape(-1))
        return out.view(stored.shape)

    def whole(self, key: str, default: int | None = None) -> int:
        """Return a whole number; one that is given per layer must be the same in all."""
        value = self.metadata.get(key, default)
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            value = value[0]
        if value is None:
            self.refuse(f"the key {key!r} is missing")
        if not isinstance(value, int | np.integer):
            self.refuse(f"{key} must be one whole number, not {_show(value)}")
        return int(value)

    def real(self, key: str, default: float | None = None) -> float:
        """Return a number; a float32 is read as the shortest decimal that it stands for (1e-6, not 9.99999997e-7)."""
        value = self.metadata.get(key, default)
        if value is None:
            self.refuse(f"the key {key!r} is missing")
        if not isinstance(value, float | np.floating | np.integer):
            self.refuse(f"{key} must be a number, not {_show(value)}")
        found = float(str(value))
        if not math.isfinite(found):
            self.refuse(f"{key} must be a finite number, not {found}")
        return found

    def text(self, key: str, default: str | None = None) -> str | None:
        """Return a string, or the default where the key is absent."""
        value = self.metadata.get(key, default)
        if value is not None and not isinstance(value, str):
            self.refuse(f"{key} must be a string, not {_show(value)}")
        return value

    def texts(self, key: str) -> Strings | None:
        """Return an array of strings, or None where the key is absent."""
        value = self.metadata.get(key)
        if value is not None and not isinstance(value, Strings):
            self.refuse(f"{key} must be an array of strings, not {_show(value)}")
        return value


def _show(value: object) -> str:
    return repr(value) if isinstance(value, str | np.generic) and len(str(value)) < 60 else f"a {type(value).__name__}"


def _read_header(cursor: Cursor) -> tuple[dict[str, Value], dict[str, Stored]]:
    if cursor.take(4, "the magic number") != MAGIC:
        cursor.fault(f"it does not begin with the letters {MAGIC.decode()}")
    version = cursor.number(4, "the version")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
        why = "it is big-endian; convert it to little-endian" if swapped else f"its version is {version}"
        cursor.fault(f"{why} (versions 2 and 3, little-endian, are read)")
    tensors = cursor.count(8, SMALLEST_TENSOR, "tensors", MAX_ENTRIES)
    entries = cursor.count(8, SMALLEST_ENTRY, "metadata entries", MAX_ENTRIES)
    metadata = _read_metadata(cursor, entries)
    alignment = metadata.get("general.alignment", np.uint32(ALIGNMENT))
    if not isinstance(alignment, np.uint32) or alignment.bit_count() != 1 or alignment > MAX_ALIGNMENT:
        cursor.fault(f"general.alignment must be a power of two up to {MAX_ALIGNMENT:,}, not {_show(alignment)}")
    return metadata, _read_tensors(cursor, tensors, int(alignment))


def _read_metadata(cursor: Cursor, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(count):
        key = cursor.string("a metadata key", limit=MAX_NAME)
        if not key or key in metadata:
            cursor.fault(f"the metadata key {key!r} appears twice" if key else "a metadata key is empty")
        metadata[key] = cursor.value(cursor.number(4, f"the type of {key!r}"), f"{key!r}")
    return metadata


def _read_tensors(cursor: Cursor, count: int, alignment: int) -> dict[str, Stored]:
    """Read the list of tensors; their bytes must follow one another without overlap, hole or remainder."""
    found: dict[str, Stored] = {}
    for _ in range(count):
        tensor = _read_tensor(cursor, alignment)
        if not tensor.name or tensor.name in found:
            cursor.fault(f"the tensor {tensor.name!r} appears twice" if tensor.name else "a tensor has no name")
        found[tensor.name] = tensor
    start = end = _pad(cursor.at, alignment)
    placed = {}
    for tensor in sorted(found.values(), key=lambda tensor: tensor.offset):
        if start + tensor.offset != _pad(end, alignment):
            cursor.fault(
                f"the tensor {tensor.name!r} is at byte {start + tensor.offset:,} where the one before it ends at "
                f"{end:,}: tensors must neither overlap nor leave a hole"
            )
        end = start + tensor.offset + tensor.nbytes
        if end > cursor.size:
            cursor.fault(f"the tensor {tensor.name!r} ends at byte {end:,} of a file of {cursor.size:,} bytes")
        placed[tensor.name] = Stored(tensor.name, tensor.shape, tensor.format, start + tensor.offset)
    if cursor.size > _pad(end, alignment):
        cursor.fault(f"{cursor.size - end:,} bytes follow the last tensor")
    return placed


def _read_tensor(cursor: Cursor, alignment: int) -> Stored:
    name = cursor.string("a tensor's name", limit=MAX_NAME)
    dims = cursor.number(4, f"the dimensions of {name!r}")
    if not 1 <= dims <= MAX_DIMS:
        cursor.fault(f"the tensor {name!r} has {dims:,} dimensions (1 to {MAX_DIMS} are possible)")
    shape = tuple(cursor.number(8, f"the shape of {name!r}") for _ in range(dims))[::-1]
    kind = cursor.number(4, f"the type of {name!r}")
    offset = cursor.number(8, f"the offset of {name!r}")
    if kind not in FORMATS:
        known = ", ".join(format.name for format in FORMATS.values())
        cursor.fault(f"the tensor {name!r} has the type {UNREAD.get(kind, kind)}, which is not read (known: {known})")
    format = FORMATS[kind]
    if 0 in shape or math.prod(shape) >= 1 << 63:
        cursor.fault(f"the tensor {name!r} has the impossible shape {list(shape)}")
    if shape[-1] % format.block:
        cursor.fault(
            f"the tensor {name!r} has rows of {shape[-1]:,} numbers, but {format.name} packs {format.block} together"
        )
    if offset % alignment:
        cursor.fault(f"the tensor {name!r} has the offset {offset:,}, which is no multiple of {alignment}")
    return Stored(name, shape, format, offset)


def _pad(at: int, alignment: int) -> int:
    return -(-at // alignment) * alignment
