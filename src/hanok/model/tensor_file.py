"""One safetensors file: the length of a header, the header in JSON (type, shape and place of each tensor), the numbers.

Tensors are read and written one at a time into and from memory of their own, not through a mapping, whose pages would
count as held. A header is believed only so far as the file bears it out.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.core.json_file import clip, parse_json

LARGEST_HEADER = 100_000_000  # bytes, as the format's own library has it
LARGEST_SIDE, MOST_SIDES = 1 << 40, 8
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
WORDS = {dtype: word for word, dtype in TYPES.items()}


@dataclass(frozen=True)
class Outline:
    """What a header says of a tensor; `start` counts bytes behind the header."""

    dtype: torch.dtype
    shape: torch.Size
    start: int = 0

    @property
    def nbytes(self) -> int:
        """Return the bytes that it fills."""
        return math.prod(self.shape) * self.dtype.itemsize

    def empty(self) -> Tensor:
        """Return a tensor of this type and shape that holds nothing."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


def read_header(file: Path) -> dict[str, Outline]:
    """Return what each tensor of a file is, in the order of their bytes, which must fill the file without a gap."""
    with _opened(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(LARGEST_HEADER, size - 8):
            raise UsageError(f"{file} is no safetensors file: its header of {length} bytes does not fit {size} bytes")
        header = parse_json(stream.read(length), where=f"{file}: the header")
    header.pop("__metadata__", None)
    outlines = {name: _outline(name, entry, file) for name, entry in header.items()}
    ordered = dict(sorted(outlines.items(), key=lambda item: (item[1].start, item[1].nbytes)))
    end = 0
    for name, outline in ordered.items():
        if outline.start != end:
            raise UsageError(f"{file}: the tensor {clip(name)} starts at byte {outline.start}, where {end} is due")
        end += outline.nbytes
    if 8 + length + end != size:
        raise UsageError(f"{file} is cut short or has a tail: its tensors end at byte {8 + length + end} of {size}")
    return ordered


def read_tensors(file: Path, outlines: Mapping[str, Outline]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a file whose header has been read, one at a time, in new memory."""
    with _opened(file) as stream:
        stream.seek(8 + int.from_bytes(stream.read(8), "little"))
        for name, outline in outlines.items():
            yield name, _read(stream, name, outline, file)


def write_file(file: Path, outlines: Mapping[str, Outline], make: Callable[[str], Tensor]) -> None:
    """Write a file that appears whole; `make` gives each tensor when its turn comes."""
    order = sorted(outlines, key=lambda name: (-outlines[name].dtype.itemsize, name))  # so that none is misaligned
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        start, end = end, end + outlines[name].nbytes
        word, shape = WORDS[outlines[name].dtype], list(outlines[name].shape)
        header[name] = {"dtype": word, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    work = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with work.open("wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                tensor = make(name).detach().cpu().contiguous()
                assert (tensor.dtype, tensor.shape) == (outlines[name].dtype, outlines[name].shape), name
                stream.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
                del tensor  # before the next is made
        os.replace(work, file)
    finally:
        work.unlink(missing_ok=True)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        if not file.is_file():
            raise UsageError(f"{file} is no file")
        with file.open("rb", buffering=0) as stream:
            yield stream
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def _read(stream: Any, name: str, outline: Outline, file: Path) -> Tensor:
    raw = torch.empty(outline.nbytes, dtype=torch.uint8)
    view, got = memoryview(raw.numpy()), 0  # type: ignore[arg-type]
    while got < len(view):
        count = stream.readinto(view[got:])
        if not count:
            raise UsageError(f"{file} ends inside the tensor {clip(name)}")
        got += count
    return raw.view(outline.dtype).view(outline.shape)


def _outline(name: str, entry: Any, file: Path) -> Outline:
    where = f"{file}: the tensor {clip(name)}"
    if not isinstance(entry, dict):
        raise UsageError(f"{where} is described by {clip(entry)}, not by dtype, shape and data_offsets")
    found: list[Any] = [entry.get(key) for key in ("dtype", "shape", "data_offsets")]
    word, shape, ends = found
    if not isinstance(word, str) or word not in TYPES:
        raise UsageError(f"{where} has the dtype {clip(word)}, which is not read (known: {', '.join(TYPES)})")
    if not _sizes(shape) or len(shape) > MOST_SIDES or max(shape, default=0) > LARGEST_SIDE:
        raise UsageError(f"{where} has the shape {clip(shape)}: at most {MOST_SIDES} whole numbers were right")
    if not _sizes(ends) or len(ends) != 2:
        raise UsageError(f"{where} has the data_offsets {clip(ends)}: two whole numbers were right")
    outline = Outline(TYPES[word], torch.Size(shape), ends[0])
    if ends[1] - ends[0] != outline.nbytes:
        raise UsageError(f"{where} has {ends[1] - ends[0]} bytes, {word} of shape {shape} needs {outline.nbytes}")
    return outline


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)
