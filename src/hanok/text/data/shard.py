"""Token shards: raw little-endian integers that are mapped rather than read, and an index with their sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hanok.core.artifact import atomic_write, file_sha256
from hanok.core.errors import UsageError

INDEX = "index.json"
ENDS = "documents.bin"  # where each document ends, uint64
SHARD_TOKENS = 2**26

Tokens = npt.NDArray[np.integer[Any]]


def write_shards(
    path: str | Path,
    documents: Iterable[Sequence[int]],
    *,
    vocab_size: int,
    num_bytes: int = 0,
    shard_tokens: int = SHARD_TOKENS,
) -> dict[str, Any]:
    """Write documents of token ids below `path` and return the index; `num_bytes` counts the text they came from."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
    shards: list[dict[str, Any]] = []
    held: list[npt.NDArray[Any]] = []
    size, total = 0, 0
    ends: list[int] = []

    def flush() -> None:
        nonlocal held, size
        if size:
            raw = np.concatenate(held).tobytes()
            name = f"{len(shards):05d}.bin"
            atomic_write(path / name, raw)
            shards.append({"file": name, "tokens": size, "sha256": hashlib.sha256(raw).hexdigest()})
        held, size = [], 0

    for document in documents:
        ids = np.asarray(document, dtype=np.int64)
        if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
            raise UsageError(f"document {len(ends)} holds a token id outside the vocabulary of {vocab_size}")
        held.append(ids.astype(dtype))
        size, total = size + ids.size, total + ids.size
        ends.append(total)
        if size >= shard_tokens:
            flush()
    flush()
    atomic_write(path / ENDS, np.asarray(ends, dtype="<u8").tobytes())
    index = {
        "dtype": dtype.str,
        "vocab_size": vocab_size,
        "tokens": total,
        "documents": len(ends),
        "bytes": num_bytes,
        "documents_sha256": file_sha256(path / ENDS),
        "shards": shards,
    }
    atomic_write(path / INDEX, json.dumps(index, indent=2) + "\n")
    return index


class Shards:
    """Tokens on disk as one long sequence."""

    def __init__(self, path: str | Path, *, verify: bool = True) -> None:
        self.path = Path(path)
        self.index = _read_index(self.path)
        dtype = np.dtype(self.index["dtype"])
        self._parts: list[Tokens] = []
        for shard in self.index["shards"]:
            file = self.path / shard["file"]
            if not file.is_file() or file.stat().st_size != shard["tokens"] * dtype.itemsize:
                raise UsageError(f"{file} is missing or has the wrong size; prepare the data again")
            if verify and file_sha256(file) != shard["sha256"]:
                raise UsageError(f"{file} has changed since it was written (sha256 differs); prepare the data again")
            self._parts.append(np.memmap(file, dtype=dtype, mode="r"))
        if verify and file_sha256(self.path / ENDS) != self.index["documents_sha256"]:
            raise UsageError(f"{self.path / ENDS} has changed since it was written; prepare the data again")
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])

    def __len__(self) -> int:
        return int(self.index["tokens"])

    @property
    def num_bytes(self) -> int:
        """Return the UTF-8 bytes of the text that the tokens came from."""
        return int(self.index["bytes"])

    @property
    def fingerprint(self) -> str:
        """Return what identifies the tokens and their order."""
        return hashlib.sha256("".join(shard["sha256"] for shard in self.index["shards"]).encode()).hexdigest()

    def read(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the tokens from `start` to `stop`, across shards."""
        pieces = []
        for part, first in zip(self._parts, self._starts, strict=False):
            low, high = max(start - int(first), 0), min(stop - int(first), len(part))
            if low < high:
                pieces.append(np.asarray(part[low:high], dtype=np.int64))
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)

    def documents(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the tokens of one document after the other."""
        start = 0
        for end in np.fromfile(self.path / ENDS, dtype="<u8"):
            yield self.read(start, int(end))
            start = int(end)


def _read_index(path: Path) -> dict[str, Any]:
    file = path / INDEX
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        names = [shard["file"] for shard in index["shards"]]
    except FileNotFoundError:
        raise UsageError(f"{path} holds no {INDEX}: it is no folder of token shards") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is damaged: {error!r}") from None
    if any(Path(name).name != name for name in names) or index.get("dtype") not in ("<u2", "<u4"):
        raise UsageError(f"{file} names a file outside its folder or an unknown number type")
    return dict(index)
