"""Which documents are copies: those that share a key, directly or through others, form a group; the first one stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hanok.core.errors import UsageError

Ints = npt.NDArray[np.int64]


def copies(signatures: npt.NDArray[np.uint64], *, words: int = 1) -> Ints:
    """Return, for each document, the number of the first document of its group: its own if it is to stay.

    `signatures` is (documents, bands * words), in the order that decides who is first; `words` columns make one key.
    Groups are the connected components of "shares the key of a band with", as in FineWeb's deduplication: a document
    can go because of a chain of others to one that it resembles little. Only one band is in memory at a time (about 60
    bytes per document), so the signatures may be a memory map. The result depends on the order alone.
    """
    count, width = signatures.shape
    if width % words:
        raise UsageError(f"signatures of {width} integers do not divide into keys of {words}")
    first = np.arange(count, dtype=np.int64)
    for band in range(0, width, words):
        order, same = _equal(signatures, band, words)
        if same.any():
            first = _join(first, order[:-1][same], order[1:][same])
    return first


def _equal(signatures: npt.NDArray[np.uint64], band: int, words: int) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return the documents sorted by the key of a band, and whether each has the same key as the next."""
    columns = [np.ascontiguousarray(signatures[:, band + word]) for word in range(words)]
    order = np.argsort(columns[0], kind="stable") if words == 1 else np.lexsort(columns[::-1])
    same = np.ones(max(len(order) - 1, 0), dtype=np.bool_)
    for column in columns:
        ordered = column[order]
        same &= ordered[1:] == ordered[:-1]
    return order, same


def _join(first: Ints, a: Ints, b: Ints) -> Ints:
    """Return the first of each document's group after documents `a` and `b` have turned out to belong together."""
    ends = first[a], first[b]
    graph: Any = coo_array((np.ones(len(a), dtype=np.bool_), ends), shape=(len(first), len(first)))
    _, label = connected_components(graph, directed=False)
    label = label[first]
    least = np.full(int(label.max()) + 1, len(first), dtype=np.int64)
    np.minimum.at(least, label, first)
    return np.asarray(least[label], dtype=np.int64)


class Duplicates:
    """Collects signatures in order, and says which documents are copies of which.

    `maker` is what made the signatures (`Exact`, `MinHash`). Nothing is decided before `find`, so that documents whose
    signatures were made by any number of workers give one result, if they are added in one order.
    """

    def __init__(self, maker: Any) -> None:
        self.words, self.width = int(maker.words), int(maker.words * maker.bands)
        self.ids: list[str] = []
        self._rows: list[npt.NDArray[np.uint64]] = []

    def add(self, id: str, signature: npt.NDArray[np.uint64]) -> None:
        """Take the next document."""
        if signature.shape != (self.width,) or signature.dtype != np.uint64:
            raise UsageError(f"a signature must be uint64 of shape ({self.width},), not that of document {id!r}")
        self.ids.append(id)
        self._rows.append(signature)

    def extend(self, documents: Iterable[tuple[str, npt.NDArray[np.uint64]]]) -> None:
        """Take documents as (id, signature)."""
        for id, signature in documents:
            self.add(id, signature)

    def find(self) -> dict[str, str]:
        """Return the id of each document to drop, and the id of the one that stays for it."""
        return dict(self._found())

    def _found(self) -> Iterator[tuple[str, str]]:
        if not self._rows:
            return
        first = copies(np.stack(self._rows), words=self.words)
        for number in np.flatnonzero(first != np.arange(len(first))).tolist():
            yield self.ids[number], self.ids[int(first[number])]
