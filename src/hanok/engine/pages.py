"""Which pages are free, how many hold each of the others, and where the next one should lie."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from hanok.core.errors import UsageError

Order = Literal["linear", "shuffled"]


class Pages:
    """Pages 1 .. total with reference counts; page 0 belongs to nobody.

    "linear" keeps a sequence's pages next to each other: it claims a run for what the sequence may grow to, and others
    take claimed pages only when nothing else is left. "shuffled" hands pages out at random. Storage is asked to grow
    (`grow(pages)`) when a page beyond it is taken.
    """

    def __init__(self, total: int, order: Order, seed: int, grow: Callable[[int], None]) -> None:
        if order not in ("linear", "shuffled"):
            raise UsageError(f"page order {order!r} is not known: use 'linear' or 'shuffled'")
        self.total, self.order, self._grow = total, order, grow
        self.used = self.stored = 0
        self.counts: npt.NDArray[np.int32] = np.zeros(total + 1, dtype=np.int32)
        self._claimed: npt.NDArray[np.bool_] = np.zeros(total + 1, dtype=np.bool_)
        self._edge = 0  # the last page that was ever claimed
        self._random = random.Random(seed)

    def take(self, last: int, claim: range) -> int:
        """Return a free page, now held once: behind page `last` (0: none yet) or within the claim if possible."""
        if self.order == "shuffled":
            page = self._any()
        else:
            page = last + 1 if last else claim.start
            if not 0 < page <= self.total or self.counts[page] or (self._claimed[page] and page not in claim):
                page = self._first()
        if page > self.stored:
            stored = min(self.total, max(16, 2 * self.stored, page))
            self._grow(stored)
            self.stored = stored
        self.counts[page] = 1
        self.used += 1
        return page

    def share(self, page: int) -> None:
        """Hold a page once more."""
        self.counts[page] += 1

    def give(self, page: int) -> None:
        """Let go of a page; the last to do so frees it."""
        self.counts[page] -= 1
        self.used -= not self.counts[page]

    def claim(self, count: int) -> range:
        """Return a run of free pages that nobody claims, or an empty range."""
        if self.order == "shuffled" or not 0 < count <= self.total:
            return range(0)
        end = min(self.total, max(self.stored, self._edge) + count)  # behind these, everything is free
        taken = np.cumsum((self.counts[: end + 1] != 0) | self._claimed[: end + 1])
        starts = np.flatnonzero(taken[count:] == taken[: len(taken) - count])
        if not len(starts):
            return range(0)
        first = int(starts[0]) + 1
        self._claimed[first : first + count] = True
        self._edge = max(self._edge, first + count - 1)
        return range(first, first + count)

    def release(self, claim: range) -> None:
        """Give a claim up; pages that are held stay held."""
        self._claimed[claim.start : claim.stop] = False

    def check(self, held: Counter[int], claims: list[range]) -> None:
        """Raise `AssertionError` unless the counts are those of `held` and the claims are disjoint and all marked."""
        assert self.used == len(held), "the number of pages in use is wrong"
        assert not self.counts[0] and held[0] == 0, "the zero page is held"
        assert all(0 < page <= self.stored for page in held), "a page is held that does not exist"
        wrong = [page for page in range(1, self.total + 1) if self.counts[page] != held[page]]
        assert not wrong, f"reference counts are wrong for pages {wrong[:5]}"
        marks = Counter(page for claim in claims for page in claim)
        assert max(marks.values(), default=1) == 1, "a page is claimed twice"
        assert set(np.flatnonzero(self._claimed)) == set(marks), "a claim was lost"

    def _first(self) -> int:
        """Return the first free page, an unclaimed one if there is any."""
        end = min(self.total, self.stored + 1)
        free = self.counts[1 : end + 1] == 0
        loose = free & ~self._claimed[1 : end + 1]
        if not loose.any() and end < self.total:
            beyond = ~self._claimed[end + 1 :]
            if beyond.any():
                return end + 1 + int(np.argmax(beyond))
        return 1 + int(np.argmax(loose if loose.any() else free))

    def _any(self) -> int:
        """Return a random free page among those that exist, or a new one if there is none."""
        free = np.flatnonzero(self.counts[1 : self.stored + 1] == 0) + 1
        if not len(free):
            self.stored, before = min(self.total, max(16, 2 * self.stored)), self.stored
            self._grow(self.stored)
            free = np.arange(before + 1, self.stored + 1)
        return int(self._random.choice(free))
