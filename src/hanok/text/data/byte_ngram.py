"""An n-gram model of bytes: small enough to train on a sample in seconds, and to say how strange a page is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from hanok.core.artifact import atomic_write
from hanok.core.errors import UsageError

MAX_ORDER = 7  # bytes that fit into an integer together with the new one
PASSAGE = 4096  # characters: about a page


class ByteNGram:
    """Counts of byte sequences under Witten-Bell smoothing.

        p_k(w | h) = (c(h w) + T(h) p_(k-1)(w | h')) / (c(h) + T(h)),   p_0 = 1 / 256

    c counts, T(h) is the number of different bytes behind h, h' is h without its first byte (Witten and Bell 1991,
    method C, interpolated as in Chen and Goodman 1998). Languages of any script share one vocabulary, and a score in
    bits per byte needs no tokenizer.
    """

    def __init__(self, order: int = 5) -> None:
        if not 1 <= order <= MAX_ORDER:
            raise UsageError(f"order must lie in 1 to {MAX_ORDER}, not {order}")
        self.order = order
        self._keys: list[npt.NDArray[np.uint64]] = []
        self._probs: list[npt.NDArray[np.float64]] = []  # c(h w) / (c(h) + T(h)), beside each n-gram
        self._contexts: list[npt.NDArray[np.uint64]] = []
        self._rests: list[npt.NDArray[np.float64]] = []  # T(h) / (c(h) + T(h)), beside each context

    @classmethod
    def train(cls, texts: Iterable[str], *, order: int = 5, max_bytes: int = 2**25) -> ByteNGram:
        """Count the n-grams of texts, up to `max_bytes` in all; no n-gram spans two texts."""
        model = cls(order)
        padded, size = [], 0
        for text in texts:
            raw = text.encode("utf-8", "replace")[: max_bytes - size]
            padded.append(model._pad(raw))
            size += len(raw)
            if size >= max_bytes:
                break
        if not size:
            raise UsageError("a byte n-gram needs at least one byte of text to learn from")
        for k in range(1, order + 1):
            keys, counts = np.unique(np.concatenate([_pack(piece, k, order) for piece in padded]), return_counts=True)
            contexts, first = np.unique(keys >> np.uint64(8), return_index=True)
            seen = np.add.reduceat(counts, first).astype(np.float64)
            kinds = np.diff(first, append=len(keys)).astype(np.float64)
            of = np.repeat(np.arange(len(contexts)), kinds.astype(np.int64))
            model._keys.append(keys)
            model._probs.append(counts / (seen + kinds)[of])
            model._contexts.append(contexts)
            model._rests.append(kinds / (seen + kinds))
        return model

    def bits_per_byte(self, text: str) -> float:
        """Return the mean of -log2 p over the bytes of a text; an empty text has 8."""
        raw = text.encode("utf-8", "replace")
        return float(-np.log2(self._likelihoods(raw)).mean()) if raw else 8.0

    def percentiles(self, texts: Sequence[str], shares: Sequence[float]) -> list[float]:
        """Return the bits per byte below which each share (in [0, 1]) of the texts lies."""
        scores = [self.bits_per_byte(text) for text in texts]
        return [float(value) for value in np.quantile(scores, list(shares))]

    def save(self, path: str | Path) -> None:
        """Write the model to one safetensors file."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for k in range(self.order):
            arrays |= {f"{k + 1}.keys": self._keys[k], f"{k + 1}.probs": self._probs[k]}
            arrays |= {f"{k + 1}.contexts": self._contexts[k], f"{k + 1}.rests": self._rests[k]}
        metadata = {"format": "byte_ngram", "config": json.dumps({"order": self.order})}
        atomic_write(Path(path), save(arrays, metadata=metadata))

    @classmethod
    def load(cls, path: str | Path) -> ByteNGram:
        """Read a model that `save` has written."""
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
            if metadata.get("format") != "byte_ngram":
                raise ValueError("it holds something else")
            model, arrays = cls(json.loads(metadata["config"])["order"]), load_file(path)
            for k in range(1, model.order + 1):
                model._keys.append(arrays[f"{k}.keys"])
                model._probs.append(arrays[f"{k}.probs"])
                model._contexts.append(arrays[f"{k}.contexts"])
                model._rests.append(arrays[f"{k}.rests"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise UsageError(f"{path} is not a saved byte n-gram: {error}") from None
        return model

    def _pad(self, raw: bytes) -> npt.NDArray[np.uint8]:
        return np.frombuffer(b"\0" * (self.order - 1) + raw, dtype=np.uint8)

    def _likelihoods(self, raw: bytes) -> npt.NDArray[np.float64]:
        padded = self._pad(raw)
        result = np.full(len(raw), 1 / 256)
        for k in range(1, self.order + 1):
            grams = _pack(padded, k, self.order)
            result *= _lookup(self._contexts[k - 1], self._rests[k - 1], grams >> np.uint64(8), 1.0)
            result += _lookup(self._keys[k - 1], self._probs[k - 1], grams, 0.0)
        return result


def passages(texts: Iterable[str], *, size: int = PASSAGE) -> Iterator[str]:
    """Yield texts cut at line breaks into passages of at most about `size` characters, as pages of a crawl are.

    A line that is longer is cut where it is; white space alone is no passage.
    """
    for text in texts:
        held: list[str] = []
        room = size
        for line in text.splitlines(keepends=True):
            for start in range(0, len(line), size):
                part = line[start : start + size]
                if held and len(part) > room:
                    yield from _joined(held)
                    held, room = [], size
                held.append(part)
                room -= len(part)
        yield from _joined(held)


def _joined(parts: Sequence[str]) -> Iterator[str]:
    if whole := "".join(parts).strip():
        yield whole


def _pack(padded: npt.NDArray[np.uint8], k: int, order: int) -> npt.NDArray[np.uint64]:
    """Return, for each byte behind the padding, the k bytes that end there as one integer."""
    count = len(padded) - order + 1
    packed = np.zeros(count, dtype=np.uint64)
    for place in range(order - k, order):
        packed = (packed << np.uint64(8)) | padded[place : place + count]
    return packed


def _lookup(
    keys: npt.NDArray[np.uint64], values: npt.NDArray[np.float64], wanted: npt.NDArray[np.uint64], default: float
) -> npt.NDArray[np.float64]:
    once, which = np.unique(wanted, return_inverse=True)  # sorted needles are found several times as fast
    places = np.minimum(np.searchsorted(keys, once), len(keys) - 1)
    return np.asarray(np.where(keys[places] == once, values[places], default)[which])
