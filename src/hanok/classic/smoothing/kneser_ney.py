"""Interpolated Kneser-Ney: below the highest order, a token counts once for each different token before it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hanok.classic.counts import Counts, Ints, Places
from hanok.classic.smoothing import SMOOTHINGS
from hanok.classic.smoothing.base import Smoothing, Tables, discounted, interpolate
from hanok.core.config import PartConfig
from hanok.core.errors import UsageError


@SMOOTHINGS.register("kneser_ney", paper="https://doi.org/10.1109/ICASSP.1995.479394")
class KneserNey(Smoothing):
    """Each order discounts its counts and hands the rest to the order below, whose counts are of different contexts.

    p_k(w | h) = max(c_k(h w) - D_k, 0) / c_k(h .) + D_k N(h .) / c_k(h .) p_{k-1}(w | h'), where N(h .) is the number
    of different tokens behind h. c is the count at the highest order and, below it, the number of different tokens
    before (continuation counts). p_0 is uniform, so that no token is impossible.
    """

    class Config(PartConfig):
        """One discount per order from 1 up (none: n1 / (n1 + 2 n2), estimated from the counts)."""

        kind: Literal["kneser_ney"] = "kneser_ney"
        discounts: tuple[float, ...] | None = None

    def __init__(self, config: Config, order: int) -> None:
        super().__init__(config, order)
        self.discounts = config.discounts
        if self.discounts is not None and len(self.discounts) != order:
            raise UsageError(f"an n-gram of order {order} needs as many discounts: {list(self.discounts)}")
        if self.discounts is not None and not all(0 <= discount <= 1 for discount in self.discounts):
            raise UsageError(f"discounts lie between 0 and 1: {list(self.discounts)}")

    def fit(self, counts: Counts, held_out: Places | None) -> Tables:
        """Discount the continuation counts of every order."""
        seen = [counts.continuations(k) for k in range(1, self.order + 1)]
        discounts = self.discounts or tuple(leave_one_out(level) for level in seen)
        levels = zip(counts.levels, seen, discounts, strict=True)
        parts = (discounted(level, count, np.full(len(count), discount)) for level, count, discount in levels)
        return interpolate(counts, parts, discounts=list(discounts))


def leave_one_out(counts: Ints) -> float:
    """Return n1 / (n1 + 2 n2), the leaving-one-out estimate of a discount (Ney, Essen, Kneser 1994)."""
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    # Without any n-gram that was seen once there is nothing to learn it from.
    return once / (once + 2 * twice) if once else 0.5
