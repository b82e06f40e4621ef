"""Files of tensor pieces: safetensors whose header says where each piece belongs, written in one pass without a copy.

The header is the one of `torch.distributed.checkpoint`'s safetensors storage (`DCP_SHARDING_INFO`), so that its
`HuggingFaceStorageReader` reads our shards; whole tensors make plain safetensors files that any tool reads.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hanok.core.artifact import ArtifactError
from hanok.core.durable import write_file
from hanok.train.checkpoint.pieces import Box, Piece, empty_like, overlap, piece_of, volume, within

SHARDING, OFFSETS, SHAPE = "DCP_SHARDING_INFO", "saved_offsets", "shape"
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
NAMED = {word: dtype for dtype, word in DTYPES.items()}
GONE = (SafetensorError, OSError, RuntimeError)  # torch opens the file a second time, in words of its own


def parts(pieces: Sequence[Piece], limit: int) -> list[list[Piece]]:
    """Divide pieces into files of at most so many bytes (a larger piece has a file of its own)."""
    found: list[list[Piece]] = [[]]
    size = 0
    for piece in pieces:
        if found[-1] and size + piece.values.nbytes > limit:
            found.append([])
            size = 0
        found[-1].append(piece)
        size += piece.values.nbytes
    return found


def write_pieces(path: Path, pieces: Sequence[Piece]) -> str:
    """Write and flush one file, holding no more than one tensor in memory twice; return the sha256 of its bytes."""
    return write_file(path, _stream(pieces))


def _stream(pieces: Sequence[Piece]) -> Iterator[bytes | memoryview]:
    ordered = sorted(pieces, key=lambda piece: (-piece.values.element_size(), piece.name))  # wide types first: aligned
    header: dict[str, Any] = {}
    sharding: dict[str, Any] = {}
    start = 0
    for piece in ordered:
        stop = start + piece.values.nbytes
        header[piece.name] = {
            "dtype": DTYPES[piece.values.dtype],
            "shape": list(piece.values.shape),
            "data_offsets": [start, stop],
        }
        sharding[piece.name] = {OFFSETS: [side[0] for side in piece.box], SHAPE: list(piece.shape)}
        start = stop
    header["__metadata__"] = {"format": "pt", SHARDING: json.dumps(sharding)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for piece in ordered:
        values = piece.values.detach().cpu().contiguous()
        yield memoryview(cast(Any, values.reshape(-1).view(torch.uint8).numpy()))


@dataclass(frozen=True)
class Stored:
    """Where a piece of a tensor lies on the disk."""

    file: Path
    box: Box
    shape: tuple[int, ...]
    dtype: torch.dtype


class Shelf(Mapping[str, Tensor]):
    """The tensors of some files by name, read when they are asked for, laid out like what will hold them.

    `like(name, shape)` returns a tensor whose layout over the processes a tensor gets, or None for a whole one.
    """

    def __init__(self, files: Sequence[Path], like: Any = None) -> None:
        self._like = like
        self._stored: dict[str, list[Stored]] = {}
        self._open: dict[Path, Any] = {}
        for file in files:
            for name, stored in _index(file):
                self._stored.setdefault(name, []).append(stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __getitem__(self, name: str) -> Tensor:
        first = self._stored[name][0]
        like = self._like(name, first.shape) if self._like is not None else None
        if like is None:
            target = torch.empty(first.shape, dtype=first.dtype)
        else:
            target = empty_like(like, first.dtype)
        self.read(name, target)
        return target

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a whole tensor."""
        return self._stored[name][0].shape

    @torch.no_grad()
    def read(self, name: str, target: Tensor) -> None:
        """Fill the part of a tensor that lies in this process."""
        wanted = piece_of(name, target)
        missing = volume(wanted.box)
        for stored in self._stored[name]:
            if stored.shape != wanted.shape:
                raise ArtifactError(f"{stored.file}: {name!r} is of {list(stored.shape)}, not {list(wanted.shape)}")
            shared = overlap(stored.box, wanted.box)
            if shared is not None:
                wanted.values[within(shared, wanted.box)].copy_(self._cut(stored, name, shared))
                missing -= volume(shared)
        if missing:
            raise ArtifactError(f"{self._stored[name][0].file.parent}: {missing} values of {name!r} are in no file")

    def _cut(self, stored: Stored, name: str, box: Box) -> Tensor:
        """Return a part of a stored piece; files stay open, for a header is long to read."""
        try:
            if stored.file not in self._open:
                self._open[stored.file] = safe_open(stored.file, framework="pt")
            opened = self._open[stored.file]
            if box == stored.box:
                return cast(Tensor, opened.get_tensor(name))
            return cast(Tensor, opened.get_slice(name)[within(box, stored.box)])
        except GONE as error:
            raise ArtifactError(f"{stored.file} cannot be read: {error}") from None


def _index(file: Path) -> list[tuple[str, Stored]]:
    found = []
    try:
        with safe_open(file, framework="pt") as opened:
            sharding = json.loads((opened.metadata() or {}).get(SHARDING, "{}"))
            for name in opened.keys():  # noqa: SIM118 - it is no dictionary
                part = opened.get_slice(name)
                lengths = part.get_shape()
                where = sharding.get(name, {OFFSETS: [0] * len(lengths), SHAPE: lengths})
                box = tuple((at, at + length) for at, length in zip(where[OFFSETS], lengths, strict=True))
                found.append((name, Stored(file, box, tuple(where[SHAPE]), NAMED[part.get_dtype()])))
    except (*GONE, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{file} cannot be read: {error}") from None
    return found
