"""Where the tokens of one ragged step lie in the pool: index tensors and masks, built once and used by every layer.

Shape legend: T tokens of the step, b rows of t queries each, S key slots, n key pages or blocks, m tiles, r query
heads per key head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.engine.pool import Pool, Slot
from hanok.ops.attention import BLOCK, tile_tokens

Ints = npt.NDArray[np.int64]
LONG = 96 << 10  # bytes of keys and values of one sequence beyond which copying them costs more than its own products
SPARE = 64  # pages of padding that are cheaper to read than another round of operations
WIDEST = 512  # pages gathered at once: bounds memory, and keeps what was gathered near the processor


class Row(NamedTuple):
    """One sequence's part of a step: `length` new tokens from position `start` on, already appended to its slot."""

    slot: Slot
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """Queries that attend together: b sequences, t queries each (None in `tokens`: they are the whole step).

    Keys are `units` (G*b*n,) of the pool to gather, or each row's run of token slots to view, or the step's own.
    Several queries have a mask `see` (1,t,S); single ones a `bias` (G*b,1,S) of 0 and -inf, or None: they see all.
    `at` holds the positions of the first query and of the first key of each row.
    """

    tokens: Tensor | None
    rows: int
    queries: int
    units: Tensor | None = None
    runs: tuple[slice, ...] = ()
    see_bTS: Tensor | None = None
    bias_N1S: Tensor | None = None
    at: tuple[Ints, Ints] | None = None


@dataclass(frozen=True, slots=True)
class Tiles:
    """Exact query tiles that attend together over key blocks `units` (G*m*n,); `tiles` None means all of the step's.

    `at` holds the positions of the first query and of the first key of each tile.
    """

    tiles: Tensor | None
    count: int
    units: Tensor
    see_mTS: Tensor
    at: tuple[Ints, Ints]


class Located(NamedTuple):
    """The tokens of a step: their positions (T,), their rows (T,), and the pages of each row (b, width)."""

    positions: Ints
    row_of: Ints
    table: Ints


def located(pool: Pool, rows: Sequence[Row]) -> Located:
    """Return where the tokens of `rows`, laid end to end, are."""
    starts = np.array([row.start for row in rows], dtype=np.int64)
    table = pool.table[[row.slot.row for row in rows]]
    if all(row.length == 1 for row in rows):
        return Located(starts, np.arange(len(rows)), table)
    lengths = np.array([row.length for row in rows], dtype=np.int64)
    row_of = np.repeat(np.arange(len(rows)), lengths)
    offsets = np.cumsum(lengths) - lengths
    return Located(np.arange(len(row_of)) + (starts - offsets)[row_of], row_of, table)


class Layout:
    """The index arithmetic of one step over `rows` laid end to end."""

    def __init__(self, pool: Pool, rows: Sequence[Row], at: Located | None = None) -> None:
        self.pool, self.rows = pool, rows
        self.device = pool.store.device
        self.positions, self.row_of, self.table = at or located(pool, rows)
        self.total = len(self.positions)
        self.starts: Ints = np.array([row.start for row in rows], dtype=np.int64)
        self.lengths: Ints = np.array([row.length for row in rows], dtype=np.int64)
        self.offsets: Ints = np.cumsum(self.lengths) - self.lengths
        self.slots: Ints = np.array([row.slot.row for row in rows], dtype=np.int64)

    def tensor(self, array: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Tensor:
        """Return an array as a tensor where the pool is."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def writes(self) -> Tensor:
        """Return the token slot (T,) that each new token is written to."""
        size = self.pool.page_size
        pages = self.table[self.row_of, self.positions // size]
        return self.tensor(pages * size + self.positions % size)

    def equal_lengths(self) -> list[tuple[Tensor | None, Tensor, int, int]]:
        """Return (tokens, slot rows, b, n) of each group of rows with the same number of tokens."""
        groups = []
        for length in np.unique(self.lengths):
            of = np.flatnonzero(self.lengths == length)
            groups.append((self._places(of), self.tensor(self.slots[of]), len(of), int(length)))
        return groups

    def buckets(self, window: int | None, heads: int, width: int) -> list[Bucket]:
        """Return the fast plan: single tokens together, longer chunks one sequence at a time.

        A key of all heads takes `width` bytes: long straight pasts are viewed one by one, the others gathered into
        padded batches, since many small products cost more than one copy.
        """
        plan = [self._chunk(int(row), window, heads) for row in np.flatnonzero(self.lengths > 1)]
        ones = np.flatnonzero(self.lengths == 1)
        oldest = _oldest(self.starts[ones], window)
        straight = np.array([self.rows[row].slot.straight for row in ones.tolist()], dtype=np.bool_)
        long = (self.starts[ones] - oldest) * width >= (LONG if len(ones) > 1 else 0)
        viewed = straight & long
        if viewed.any():
            rows = ones[viewed]
            runs = [self._run(int(row), int(first)) for row, first in zip(rows, oldest[viewed], strict=True)]
            at = (self.starts[rows], oldest[viewed])
            plan.append(Bucket(self._places(rows), len(rows), 1, runs=tuple(runs), at=at))
        rest = ones[~viewed]
        first, count = self._span(self.starts[rest], self.starts[rest] + 1, window, self.pool.page_size)
        return plan + [self._batch(rest[part], first[part], wide, window, heads) for part, wide in _batches(count)]

    def tile_of(self, group: int) -> tuple[int, Tensor]:
        """Return the number of exact tiles, and for each token (T,) its place among their tokens."""
        size = tile_tokens(group)
        base = self._tile_base(size)
        tile = (base - self.starts // size)[self.row_of] + self.positions // size
        return int(tile[-1]) + 1, self.tensor(tile * size + self.positions % size)

    def tiles(self, window: int | None, group: int, heads: int) -> list[Tiles]:
        """Return the exact plan: tiles of the fixed layout, those of about as many key blocks together."""
        if self.pool.page_size % BLOCK:
            raise UsageError(f"exact numerics need pages of a multiple of {BLOCK} tokens, not {self.pool.page_size}")
        size = tile_tokens(group)
        base = self._tile_base(size)
        ends = self.starts + self.lengths
        counts = (ends - 1) // size - self.starts // size + 1
        row = np.repeat(np.arange(len(self.rows)), counts)
        at = (np.arange(len(row)) - base[row] + self.starts[row] // size) * size  # the tile's first position
        first, count = self._span(np.maximum(at, self.starts[row]), np.minimum(at + size, ends[row]), window, BLOCK)
        plan = []
        for part, wide in _batches(count):
            query = at[part][:, None] + np.arange(size)
            key = (first[part] * BLOCK)[:, None] + np.arange(wide * BLOCK)
            units = self._units(row[part], first[part], wide, (BLOCK, heads))
            see = self._see(query, key, window).repeat_interleave(group, 1)
            whole = len(part) == len(row)
            begin = (at[part], first[part] * BLOCK)
            plan.append(Tiles(None if whole else self.tensor(part), len(part), units, see, begin))
        return plan

    def _chunk(self, row: int, window: int | None, heads: int) -> Bucket:
        start, length = int(self.starts[row]), int(self.lengths[row])
        tokens = self._places(np.array([row]))
        queries = np.arange(start, start + length)[None]
        if start == 0:
            see = None if window is None else self._see(queries, queries, window)
            return Bucket(tokens, 1, length, see_bTS=see, at=(queries[:, 0], queries[:, 0]))
        first = int(_oldest(self.starts[row], window))
        if self.rows[row].slot.straight:
            see = self._see(queries, np.arange(first, start + length)[None], window)
            at = (queries[:, 0], np.array([first]))
            return Bucket(tokens, 1, length, runs=(self._run(row, first),), see_bTS=see, at=at)
        return self._batch(np.array([row]), *self._one_span(first, start + length), window, heads)

    def _batch(self, rows: Ints, first: Ints, wide: int, window: int | None, heads: int) -> Bucket:
        length, size = int(self.lengths[rows[0]]), self.pool.page_size
        query = self.starts[rows][:, None] + np.arange(length)
        key = (first * size)[:, None] + np.arange(wide * size)
        units = self._units(rows, first, wide, (size, heads))
        at = (query[:, 0], key[:, 0])
        if length > 1:
            return Bucket(self._places(rows), len(rows), length, units, see_bTS=self._see(query, key, window), at=at)
        bias = np.where(_sees(query, key, window), np.float32(0), -np.float32(np.inf))
        bias_N1S = torch.from_numpy(np.tile(bias, (heads, 1, 1))).to(self.device, self.pool.store.dtype)
        return Bucket(self._places(rows), len(rows), 1, units, bias_N1S=bias_N1S, at=at)

    def _run(self, row: int, first: int) -> slice:
        """Return the token slots of a straight sequence from position `first` to its end."""
        base = self.rows[row].slot.origin * self.pool.page_size
        return slice(base + first, base + int(self.starts[row] + self.lengths[row]))

    def _one_span(self, first: int, end: int) -> tuple[Ints, int]:
        size = self.pool.page_size
        return np.array([first // size]), (end - 1) // size - first // size + 1

    def _tile_base(self, size: int) -> Ints:
        counts = (self.starts + self.lengths - 1) // size - self.starts // size + 1
        base: Ints = np.cumsum(counts) - counts
        return base

    def _span(self, low: Ints, high: Ints, window: int | None, size: int) -> tuple[Ints, Ints]:
        """Return the first unit of `size` keys that queries at low .. high - 1 see, and how many they see."""
        first = _oldest(low, window) // size
        return first, (high - 1) // size - first + 1

    def _units(self, rows: Ints, first: Ints, wide: int, shape: tuple[int, int]) -> Tensor:
        """Return the numbers (G*b*wide,) of the pool's units that hold these keys; `shape` is (unit's size, G).

        What lies beyond a sequence's end points at some page of its own or at the zero page, and no query sees it.
        """
        size, heads = shape
        per_page = self.pool.page_size // size
        unit = first[:, None] + np.arange(wide)
        page = np.minimum(unit // per_page, self.table.shape[1] - 1)
        units = self.table[rows[:, None], page] * per_page + unit % per_page
        per_head = (self.pool.store.pages + 1) * per_page
        return self.tensor((np.arange(heads)[:, None] * per_head + units.ravel()).ravel())

    def _places(self, rows: Ints) -> Tensor | None:
        """Return where rows of one length have their tokens in the step; None where they are all of it."""
        if len(rows) == len(self.rows):
            return None
        return self.tensor((self.offsets[rows][:, None] + np.arange(self.lengths[rows[0]])).ravel())

    def _see(self, query: Ints, key: Ints, window: int | None) -> Tensor:
        return self.tensor(_sees(query, key, window))


def _sees(query: Ints, key: Ints, window: int | None) -> npt.NDArray[np.bool_]:
    """Return whether queries (b,t) see keys (b,S): not later than they are, and within the window."""
    distance = query[:, :, None] - key[:, None, :]
    return distance >= 0 if window is None else (distance >= 0) & (distance < window)


def _oldest(starts: Ints, window: int | None) -> Ints:
    """Return the first position that queries from `starts` on see."""
    return np.zeros_like(starts) if window is None else np.maximum(starts - window + 1, 0)


def _batches(counts: Ints) -> list[tuple[Ints, int]]:
    """Group rows of about as many pages each, so that little of a padded batch is padding: (rows, pages) per group."""
    order = np.argsort(-counts, kind="stable")
    groups: list[tuple[Ints, int]] = []
    start = 0
    while start < len(order):
        wide = int(counts[order[start]])
        rest = counts[order[start:]]
        size = np.arange(1, len(rest) + 1)
        padding = wide * size - np.cumsum(rest)
        fits = ((padding <= SPARE) | (4 * padding <= wide * size)) & (wide * size <= max(WIDEST, wide))
        stop = start + (len(rest) if fits.all() else int(np.argmin(fits)))
        groups.append((np.sort(order[start:stop]), wide))
        start = stop
    return groups
