"""Writing the container: a header from what is known of the tensors, then one tensor after another."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hanok.model.gguf.cursor import Value
from hanok.model.gguf.layout import ALIGNMENT, ARRAY, MAGIC, SCALARS, STRING
from hanok.model.gguf.quant import Format

CHUNK = 1 << 18
KINDS = {dtype: kind for kind, dtype in SCALARS.items()}


def header(metadata: Mapping[str, Value], tensors: Mapping[str, tuple[tuple[int, ...], Format]]) -> bytes:
    """Return the bytes ahead of the tensors, padded; the tensors follow in the order given."""
    out = bytearray(MAGIC + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
    for key, value in metadata.items():
        out += _string(key) + _typed(value)
    offset = 0
    for name, (shape, format) in tensors.items():
        sizes = shape[::-1]
        out += _string(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, format.id, offset)
        offset += padded(format.nbytes(int(np.prod(shape))))
    return bytes(out.ljust(padded(len(out)), b"\0"))


def padded(size: int) -> int:
    """Return a size rounded up to where the next tensor may begin."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def encode(numbers: npt.NDArray[np.float32], format: Format) -> Iterable[bytes]:
    """Yield a tensor's bytes, a chunk at a time, and the padding behind them."""
    assert format.encode is not None
    flat = numbers.reshape(-1, format.block)
    step = CHUNK // format.block
    for start in range(0, len(flat), step):
        yield format.encode(np.ascontiguousarray(flat[start : start + step])).tobytes()
    size = format.nbytes(numbers.size)
    yield bytes(padded(size) - size)


def write_whole(path: Path, pieces: Callable[[], Iterable[bytes]]) -> None:
    """Write a file that appears whole or not at all, without ever holding it in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, work = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces():
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(work, 0o644)
        os.replace(work, path)
    finally:
        Path(work).unlink(missing_ok=True)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _typed(value: Value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, np.generic):
        return struct.pack("<I", KINDS[value.dtype]) + value.tobytes()
    if isinstance(value, np.ndarray):
        return struct.pack("<IIQ", ARRAY, KINDS[value.dtype], len(value)) + value.tobytes()
    return struct.pack("<I", ARRAY) + _array(value)


def _array(values: Sequence[Value]) -> bytes:
    if any(not isinstance(value, str) for value in values):  # an array of arrays: each says its own type
        return struct.pack("<IQ", ARRAY, len(values)) + b"".join(_typed(value)[4:] for value in values)
    return struct.pack("<IQ", STRING, len(values)) + b"".join(_string(str(value)) for value in values)
