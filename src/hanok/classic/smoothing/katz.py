"""Katz back-off: Good-Turing discounts what was seen rarely, and only what was not seen asks the order below."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from hanok.classic.counts import Counts, Floats, Ints, Level, Places
from hanok.classic.smoothing import SMOOTHINGS
from hanok.classic.smoothing.base import Smoothing, Tables, share
from hanok.classic.smoothing.kneser_ney import leave_one_out
from hanok.core.config import PartConfig

NOTHING = 1e-12  # a share that is rounding
MOST = 0.75  # what an absolute discount may take: a seen token must stay possible


@SMOOTHINGS.register("katz", paper="https://doi.org/10.1109/TASSP.1987.1165125")
class Katz(Smoothing):
    """p_k(w | h) = d_c c(h w) / c(h .) if h w was seen, else a(h) p_{k-1}(w | h'); a(h) makes the sum 1.

    Counts above `cutoff` = t are trusted (d = 1). Below, with n_r the number of n-grams that were seen r times,
    d_r = (r* / r - A) / (1 - A), r* = (r + 1) n_{r+1} / n_r, A = (t + 1) n_{t+1} / n_1. p_0 is uniform.
    """

    class Config(PartConfig):
        """The count above which nothing is discounted."""

        kind: Literal["katz"] = "katz"
        cutoff: int = Field(default=5, ge=1)

    def __init__(self, config: Config, order: int) -> None:
        super().__init__(config, order)
        self.cutoff = config.cutoff

    def fit(self, counts: Counts, held_out: Places | None) -> Tables:
        """Discount every order and weigh the one below it."""
        tables = Tables([], [], 1 / counts.vocab_size)
        lower = np.full(1, tables.base)
        for level in counts.levels:
            ratios = good_turing(level.counts, self.cutoff)
            lower, rest = back_off(level, ratios[np.minimum(level.counts, self.cutoff + 1)], lower[level.suffix])
            tables.prob.append(lower)
            tables.rest.append(rest)
            tables.learned.setdefault("ratios", []).append(ratios[1:-1].tolist())
        return tables


def good_turing(counts: Ints, cutoff: int) -> Floats:
    """Return the ratio d_r by r = 0 .. cutoff + 1; where a text is too small to tell, that of an absolute discount."""
    n = np.bincount(counts[counts > 0].clip(max=cutoff + 2), minlength=cutoff + 3).astype(float)
    r = np.arange(1, cutoff + 1)
    found = np.ones(cutoff + 2)
    found[1:-1] = (r - min(leave_one_out(counts), MOST)) / r
    if n[1] and (n[1 : cutoff + 1] > 0).all() and (cutoff + 1) * n[cutoff + 1] < n[1]:
        beyond = (cutoff + 1) * n[cutoff + 1] / n[1]
        ratios = ((r + 1) * n[2 : cutoff + 2] / (r * n[1 : cutoff + 1]) - beyond) / (1 - beyond)
        if ((ratios > 0) & (ratios <= 1)).all():
            found[1:-1] = ratios
    return found


def back_off(level: Level, ratio: Floats, lower: Floats) -> tuple[Floats, Floats]:
    """Return the probabilities of seen k-grams and the weight of the order below, given its probabilities of them."""
    totals, seen = level.totals(), level.counts > 0
    kept = level.totals(ratio * level.counts)
    covered = level.totals(lower * seen)
    # If nothing was taken from a context in which something is unseen, one more count makes room for that.
    open_ = covered < 1 - NOTHING
    behind = np.where(open_ & (totals - kept < NOTHING * totals), totals + 1, totals)
    # If everything was seen, there is nothing to back off to, and what was taken goes back.
    behind = np.where(open_, behind, kept)
    prob = share(level, ratio * level.counts, behind)
    left = 1 - np.divide(kept, behind, out=np.zeros(len(kept)), where=behind > 0)
    rest = np.divide(left, 1 - covered, out=np.zeros(len(left)), where=open_)
    return prob, np.where(totals > 0, rest, 1.0)
