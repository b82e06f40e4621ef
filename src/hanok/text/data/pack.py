"""Packing: whole documents laid into rows with next to no padding, and masks that keep them apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hanok.core.errors import UsageError
from hanok.text.data.rows import Documents, Ids, Span


class Packed:
    """Rows of whole documents by best-fit decreasing; a document longer than a row is cut into rows and a rest.

    Each document is a segment that sees no other, so which ones share a row changes no prediction; the plan is made
    once and only the order of rows is shuffled. A document of n tokens takes n - 1 places; one of fewer than two
    tokens has nothing to predict and is in no row. Ding et al. 2024, arXiv:2404.10830.
    """

    def __init__(self, documents: Documents, length: int) -> None:
        self.documents, self.length = documents, length
        ends = documents.ends()
        sizes = np.diff(ends, prepend=0)
        places = np.maximum(sizes - 1, 0)
        counts = -(-places // length)
        if not counts.any():
            raise UsageError(f"{documents.shards.path} holds no document of two tokens or more")
        total = int(counts.sum())
        owners = np.repeat(np.arange(len(sizes)), counts)
        numbers = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)  # of the piece in its document
        starts = (ends - sizes)[owners] + numbers * length
        taken = np.minimum(places[owners] - numbers * length, length)
        row_of, self._n = best_fit(taken, length)
        order = np.argsort(row_of, kind="stable")
        self._row_starts = np.searchsorted(row_of[order], np.arange(self._n + 1))
        self._starts, self._sizes = starts[order], taken[order]
        self._row_of, self._first = row_of, np.concatenate([[0], np.cumsum(counts)])
        self._targets = int(taken.sum())

    def __len__(self) -> int:
        return self._n

    @property
    def fingerprint(self) -> str:
        """Return what identifies the rows and their order."""
        borders = self.documents.shards.index["documents_sha256"]
        return f"{self.documents.fingerprint}/{borders}/packed/{self.length}"

    @property
    def targets(self) -> int:
        """Return how many targets one pass has."""
        return self._targets

    def pieces(self, row: int) -> list[Ids]:
        """Return the documents of a row, or the part of a long one."""
        return [self.documents.read(start, start + size + 1) for start, size in self._places(row)]

    def spans(self, row: int) -> list[Span]:
        """Return which tokens of which documents stand in a row."""
        return [span for start, size in self._places(row) for span in self.documents.spans(start, start + size + 1)]

    def rows_of(self, document: int) -> list[int]:
        """Return the rows in which a document stands."""
        place = self.documents.place_of(document)
        if place is None:
            return []
        return sorted({int(row) for row in self._row_of[self._first[place] : self._first[place + 1]]})

    def _places(self, row: int) -> list[tuple[int, int]]:
        part = slice(int(self._row_starts[row]), int(self._row_starts[row + 1]))
        return [(int(start), int(size)) for start, size in zip(self._starts[part], self._sizes[part], strict=True)]


def best_fit(sizes: npt.NDArray[np.int64], length: int) -> tuple[npt.NDArray[np.int64], int]:
    """Return the row of each piece (1 <= size <= length) by best-fit decreasing, and the number of rows.

    Rows with the same room are alike, so that pieces of one size are placed by the class of rows and not one by one:
    ten million pieces take about as long as sorting them.
    """
    row_of = np.zeros(len(sizes), dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    descending = sizes[order]
    borders = np.flatnonzero(np.diff(descending)) + 1
    open_rows: dict[int, list[npt.NDArray[np.int64]]] = {}
    rooms = 0  # bit r is set when there is a row with room r
    rows = 0
    for group in np.split(order, borders):
        size = int(sizes[group[0]])
        while len(group):
            fitting = rooms >> size
            if fitting:
                room = size + (fitting & -fitting).bit_length() - 1
                free = np.concatenate(open_rows.pop(room))
                rooms ^= 1 << room
            else:
                room = length
                opened = -(-len(group) // (length // size))
                free = np.arange(rows, rows + opened)
                rows += opened
            each = room // size
            used = min(len(free), -(-len(group) // each))
            here, group = group[: used * each], group[used * each :]
            row_of[here] = np.repeat(free[:used], each)[: len(here)]
            full, rest = divmod(len(here), each)
            left = [(room - each * size, free[:full]), (room - rest * size, free[full:used]), (room, free[used:])]
            for remaining, some in left:
                if remaining and len(some):
                    open_rows.setdefault(remaining, []).append(some)
                    rooms |= 1 << remaining
    return row_of, rows
