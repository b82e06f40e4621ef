"""Which pages are free, how many hold each of the others, which are kept to be found again, and where the next lies."""

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
    (`grow(pages)`) when a page beyond it is taken. A page that is `kept` stays as it is when nobody holds it any more,
    until no other is free; then the one that was let go first is taken, and `evicted(page)` is told.
    """

    def __init__(self, total: int, order: Order, seed: int, grow: Callable[[int], None]) -> None:
        if order not in ("linear", "shuffled"):
            raise UsageError(f"page order {order!r} is not known: use 'linear' or 'shuffled'")
        self.total, self.order, self._grow = total, order, grow
        self.used = self.stored = 0  # held by someone; in storage
        self.idle = 0  # kept, and held by nobody
        self.counts: npt.NDArray[np.int32] = np.zeros(total + 1, dtype=np.int32)
        self.kept: npt.NDArray[np.bool_] = np.zeros(total + 1, dtype=np.bool_)
        self.evicted: Callable[[int], None] = lambda page: None
        self._let_go: npt.NDArray[np.int64] = np.zeros(total + 1, dtype=np.int64)  # when, on a clock of its own
        self._clock = 0
        self._claimed: npt.NDArray[np.bool_] = np.zeros(total + 1, dtype=np.bool_)
        self._edge = 0  # the last page that was ever claimed
        self._random = random.Random(seed)

    def take(self, last: int, claim: range) -> int:
        """Return a free page, now held once: behind page `last` (0: none yet) or within the claim if possible."""
        page = self._any() if self.order == "shuffled" else self._near(last, claim)
        if page > self.stored:
            stored = min(self.total, max(16, 2 * self.stored, page))
            self._grow(stored)
            self.stored = stored
        if self.kept[page]:
            self.drop(page)
        self.counts[page] = 1
        self.used += 1
        return page

    def share(self, page: int) -> None:
        """Hold a page once more; one that is kept may have been held by nobody."""
        if not self.counts[page]:
            self.used += 1
            self.idle -= 1
        self.counts[page] += 1

    def give(self, page: int) -> None:
        """Let go of a page; the last to do so frees it."""
        self.counts[page] -= 1
        if not self.counts[page]:
            self.used -= 1
            self.idle += int(self.kept[page])
            self._clock += 1
            self._let_go[page] = self._clock

    def keep(self, page: int) -> None:
        """Mark a page that someone holds as worth finding again."""
        self.kept[page] = True

    def drop(self, page: int) -> None:
        """Take the mark away, and tell."""
        self.kept[page] = False
        self.idle -= int(not self.counts[page])
        self.evicted(page)

    def claim(self, count: int, after: int = 0) -> range:
        """Return a run of free pages that nobody claims, right behind page `after` if possible, or an empty range."""
        if self.order == "shuffled" or not 0 < count <= self.total:
            return range(0)
        run = slice(after + 1, after + 1 + count)
        busy = (self.counts != 0) | self._claimed | self.kept
        if not after or run.stop > self.total + 1 or busy[run].any():
            end = min(self.total, max(self.stored, self._edge) + count)  # behind these, everything is free
            taken = np.cumsum(busy[: end + 1])
            starts = np.flatnonzero(taken[count:] == taken[: len(taken) - count])
            if not len(starts):
                return range(0)
            run = slice(int(starts[0]) + 1, int(starts[0]) + 1 + count)
        self._claimed[run] = True
        self._edge = max(self._edge, run.stop - 1)
        return range(run.start, run.stop)

    def release(self, claim: range) -> None:
        """Give a claim up; pages that are held stay held."""
        self._claimed[claim.start : claim.stop] = False

    def check(self, held: Counter[int], claims: list[range]) -> None:
        """Raise `AssertionError` unless the counts are those of `held` and the claims are disjoint and all marked."""
        assert self.used == len(held), "the number of pages in use is wrong"
        assert not self.counts[0] and held[0] == 0, "the zero page is held"
        assert all(0 < page <= self.stored for page in held), "a page is held that does not exist"
        counts = np.zeros_like(self.counts)
        counts[list(held.keys())] = list(held.values())
        wrong = np.flatnonzero(self.counts != counts)
        assert not len(wrong), f"reference counts are wrong for pages {wrong[:5]}"
        assert not self.kept[0] and not self.kept[self.stored + 1 :].any(), "a page is kept that does not exist"
        assert self.idle == int((self.kept & (self.counts == 0)).sum()), "the number of idle pages is wrong"
        marks = Counter(page for claim in claims for page in claim)
        assert max(marks.values(), default=1) == 1, "a page is claimed twice"
        assert set(np.flatnonzero(self._claimed)) == set(marks), "a claim was lost"

    def _near(self, last: int, claim: range) -> int:
        """Return the page behind the last one, else the first that is free in the claim, else any."""
        page = last + 1
        # Beyond the claim only where storage is: one sequence alone must not make it grow page by page.
        near = page in claim or (page <= self.stored and not self._claimed[page])
        if last and page <= self.total and near and not self.counts[page] and not self.kept[page]:
            return page
        own = slice(claim.start, claim.stop)
        free = (self.counts[own] == 0) & ~self.kept[own]
        return claim.start + int(np.argmax(free)) if free.any() else self._first()

    def _first(self) -> int:
        """Return the first free page that is not kept, an unclaimed one if there is any; else one that is kept."""
        end = min(self.total, self.stored + 1)
        free = (self.counts[1 : end + 1] == 0) & ~self.kept[1 : end + 1]
        loose = free & ~self._claimed[1 : end + 1]
        if loose.any():
            return 1 + int(np.argmax(loose))
        beyond = ~self._claimed[end + 1 :]
        if beyond.any():
            return end + 1 + int(np.argmax(beyond))
        if free.any():  # the end of someone's claim, which may never be reached
            return end - int(np.argmax(free[::-1]))
        return self._oldest()

    def _any(self) -> int:
        """Return a random free page among those that exist, or a new one if there is none, or one that is kept."""
        free = np.flatnonzero((self.counts[1 : self.stored + 1] == 0) & ~self.kept[1 : self.stored + 1]) + 1
        if not len(free) and self.stored == self.total:
            return self._oldest()
        if not len(free):
            self.stored, before = min(self.total, max(16, 2 * self.stored)), self.stored
            self._grow(self.stored)
            free = np.arange(before + 1, self.stored + 1)
        return int(self._random.choice(free))

    def _oldest(self) -> int:
        """Return the kept page that was let go longest ago."""
        idle = np.flatnonzero(self.kept & (self.counts == 0))
        return int(idle[np.argmin(self._let_go[idle])])
