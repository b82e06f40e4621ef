"""Witten-Bell: the chance of something new is how often something new has come."""

from __future__ import annotations

from typing import Literal

from hanok.classic.counts import Counts, Places
from hanok.classic.smoothing import SMOOTHINGS
from hanok.classic.smoothing.base import Smoothing, Tables, interpolate, rest_of, share
from hanok.core.config import PartConfig


@SMOOTHINGS.register("witten_bell", paper="https://doi.org/10.1109/18.87000")
class WittenBell(Smoothing):
    """Each order hands down what it would take to see something new: p_k = (c + N(h .) p_{k-1}) / (c(h .) + N(h .)).

    N(h .) is the number of different tokens behind h; p_0 is uniform. There is nothing to estimate.
    """

    class Config(PartConfig):
        """Nothing to set."""

        kind: Literal["witten_bell"] = "witten_bell"

    def fit(self, counts: Counts, held_out: Places | None) -> Tables:
        """Weigh each order by how varied its contexts are."""
        parts = []
        for level in counts.levels:
            different = level.totals(level.counts > 0)
            total = level.totals() + different
            parts.append((share(level, level.counts, total), rest_of(different, total)))
        return interpolate(counts, parts)
