"""Kneser-Ney with three discounts, the strongest of the n-gram smoothings."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hanok.classic.counts import Counts, Ints, Places
from hanok.classic.smoothing import SMOOTHINGS
from hanok.classic.smoothing.base import Smoothing, Tables, discounted, interpolate
from hanok.core.config import PartConfig

FALLBACK = (0.5, 1.0, 1.5)


@SMOOTHINGS.register("modified_kneser_ney", paper="https://doi.org/10.1006/csla.1999.0128")
class ModifiedKneserNey(Smoothing):
    """Kneser-Ney whose discount depends on the count: one for 1, one for 2, one for 3 and more.

    With Y = n1 / (n1 + 2 n2): D_c = c - (c + 1) Y n_{c+1} / n_c for c = 1, 2, 3 (Chen and Goodman 1998), where n_c is
    the number of n-grams with the count c; 0.5, 1 and 1.5 where a text is too small to tell.
    """

    class Config(PartConfig):
        """Nothing to set: the discounts come from the counts."""

        kind: Literal["modified_kneser_ney"] = "modified_kneser_ney"

    def fit(self, counts: Counts, held_out: Places | None) -> Tables:
        """Discount the continuation counts of every order."""
        seen = [counts.continuations(k) for k in range(1, self.order + 1)]
        discounts = [three(level) for level in seen]
        levels = zip(counts.levels, seen, discounts, strict=True)
        parts = (discounted(level, c, np.array([0.0, *d])[np.minimum(c, 3)]) for level, c, d in levels)
        return interpolate(counts, parts, discounts=[list(d) for d in discounts])


def three(counts: Ints) -> tuple[float, ...]:
    """Return the discounts of the counts 1, 2 and 3 or more."""
    n = [int((counts == c).sum()) for c in range(1, 5)]
    if not all(n):
        return FALLBACK
    y = n[0] / (n[0] + 2 * n[1])
    found = tuple(c - (c + 1) * y * n[c] / n[c - 1] for c in (1, 2, 3))
    return found if all(0 <= d <= c for c, d in enumerate(found, 1)) else FALLBACK
