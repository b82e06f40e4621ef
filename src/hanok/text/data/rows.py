"""What a stream draws: rows of tokens, each computed from its number alone, and where every document lies in them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from hanok.core.errors import UsageError
from hanok.text.batch import Batch
from hanok.text.data.shard import ENDS, Shards

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Span:
    """The tokens `start` to `stop` of a document, as they stand in a row (the last is only a target)."""

    document: int
    start: int
    stop: int


class Rows(Protocol):
    """Rows of one length over some documents, in an order of their own that is never shuffled here."""

    documents: Documents
    length: int

    def __len__(self) -> int:
        """Return how many rows one pass has."""
        ...

    @property
    def fingerprint(self) -> str:
        """Return what identifies the rows and their order."""
        ...

    @property
    def targets(self) -> int:
        """Return how many targets one pass has."""
        ...

    def pieces(self, row: int) -> list[Ids]:
        """Return the stretches of tokens in a row; no stretch sees another."""
        ...

    def spans(self, row: int) -> list[Span]:
        """Return which tokens of which documents stand in a row."""
        ...

    def rows_of(self, document: int) -> list[int]:
        """Return the rows in which a document stands."""
        ...


class Documents:
    """Some of the documents of token shards (all of them unless `numbers` says which), as one long sequence."""

    def __init__(self, shards: Shards, numbers: npt.NDArray[np.integer[Any]] | None = None) -> None:
        self.shards, self.numbers = shards, numbers
        file = shards.path / ENDS  # an empty file cannot be mapped
        self._all: npt.NDArray[np.uint64] = (
            np.memmap(file, dtype="<u8", mode="r") if file.stat().st_size else np.zeros(0, dtype=np.uint64)
        )
        if numbers is None:
            return
        if len(numbers) == 0 or np.any(np.diff(numbers) <= 0) or numbers[0] < 0 or numbers[-1] >= len(self._all):
            raise UsageError(f"{shards.path}: chosen documents must be some, of these, in order and each once")
        ends, numbers = self._all, np.asarray(numbers, dtype=np.int64)
        self._starts = np.where(numbers > 0, ends[numbers - 1], 0).astype(np.int64)
        self._ends: Ids = np.cumsum(ends[numbers].astype(np.int64) - self._starts)

    def __len__(self) -> int:
        return len(self._all if self.numbers is None else self.numbers)

    @property
    def num_tokens(self) -> int:
        """Return how many tokens all the documents have."""
        return len(self.shards) if self.numbers is None else int(self._ends[-1])

    @property
    def fingerprint(self) -> str:
        """Return what identifies the documents and their order."""
        if self.numbers is None:
            return self.shards.fingerprint
        chosen = hashlib.sha256(np.asarray(self.numbers, dtype="<i8").tobytes()).hexdigest()
        return f"{self.shards.fingerprint}/{chosen}"

    def ends(self) -> Ids:
        """Return where each document ends in the sequence."""
        return self._all.astype(np.int64) if self.numbers is None else self._ends

    def bounds(self, place: int) -> tuple[int, int]:
        """Return the start and the end of the document at a place of the list."""
        ends = self._all if self.numbers is None else self._ends
        return (int(ends[place - 1]) if place else 0), int(ends[place])

    def place_at(self, token: int) -> int:
        """Return the place of the document that holds a token of the sequence."""
        ends = self._all if self.numbers is None else self._ends
        return int(np.searchsorted(ends, ends.dtype.type(token), side="right"))

    def number(self, place: int) -> int:
        """Return the number that a document has in the shards."""
        return place if self.numbers is None else int(self.numbers[place])

    def place_of(self, number: int) -> int | None:
        """Return where a document stands in the list, or None if it is not one of them."""
        if self.numbers is None:
            return number if 0 <= number < len(self._all) else None
        place = int(np.searchsorted(self.numbers, number))
        return place if place < len(self.numbers) and self.numbers[place] == number else None

    def read(self, start: int, stop: int) -> Ids:
        """Return tokens of the sequence, across documents."""
        if self.numbers is None:
            return self.shards.read(start, stop)
        parts, place = [], self.place_at(start)
        while start < stop and place < len(self._ends):
            first, end = self.bounds(place)
            at, upto = int(self._starts[place]) - first, min(stop, end)
            parts.append(self.shards.read(start + at, upto + at))
            start, place = upto, place + 1
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def spans(self, start: int, stop: int) -> list[Span]:
        """Return the documents that the tokens `start` to `stop` of the sequence belong to."""
        spans, place = [], self.place_at(start)
        while start < stop:
            first, end = self.bounds(place)
            upto = min(stop, end)
            if start < upto:
                spans.append(Span(self.number(place), start - first, upto - first))
            start, place = max(start, upto), place + 1
        return spans


class Windows:
    """Windows of `length` tokens and their targets over documents laid end to end; attention crosses their borders.

    Windows overlap by the one token that ends a window's targets, so that a pass predicts every token once.
    """

    def __init__(self, documents: Documents, length: int) -> None:
        self.documents, self.length = documents, length
        self._n = (documents.num_tokens - 1) // length
        if self._n < 1:
            where = str(documents.shards.path)
            if documents.numbers is not None:
                where = f"the choice of {len(documents)} documents from {where}"
            raise UsageError(f"{where} holds {documents.num_tokens} tokens, fewer than a window of {length} + 1")

    def __len__(self) -> int:
        return self._n

    @property
    def fingerprint(self) -> str:
        """Return what identifies the rows and their order."""
        return f"{self.documents.fingerprint}/{self.length}"

    @property
    def targets(self) -> int:
        """Return how many targets one pass has."""
        return self._n * self.length

    def pieces(self, row: int) -> list[Ids]:
        """Return the one stretch of tokens of a window."""
        return [self.documents.read(row * self.length, (row + 1) * self.length + 1)]

    def spans(self, row: int) -> list[Span]:
        """Return which tokens of which documents stand in a window."""
        return self.documents.spans(row * self.length, (row + 1) * self.length + 1)

    def rows_of(self, document: int) -> list[int]:
        """Return the windows in which a document stands."""
        place = self.documents.place_of(document)
        if place is None:
            return []
        start, end = self.documents.bounds(place)
        first = max(0, -(-(start - self.length) // self.length))
        return list(range(first, min(self._n, -(-end // self.length)))) if start < end else []


def row_batch(rows: Sequence[Sequence[Ids]], length: int, *, segmented: bool) -> Batch:
    """Lay each row's stretches end to end; a stretch of n tokens takes n - 1 places, its last is only a target.

    With `segmented` each stretch is a document of its own with positions from 0, and so is the padding, weight 0.
    """
    shape = (len(rows), length)
    tokens, targets = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    positions, segments = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    weights = np.zeros(shape, dtype=np.float32)
    for b, row in enumerate(rows):
        at = 0
        for number, piece in enumerate(row):
            end = at + len(piece) - 1
            tokens[b, at:end], targets[b, at:end] = piece[:-1], piece[1:]
            weights[b, at:end] = 1
            positions[b, at:end] = np.arange(end - at)
            segments[b, at:end] = number
            at = end
        positions[b, at:] = np.arange(length - at)
        segments[b, at:] = len(row)
    laid = [torch.from_numpy(array) for array in (tokens, targets, weights, positions, segments)]
    return Batch(laid[0], laid[1], laid[2], laid[3], laid[4] if segmented else None)
