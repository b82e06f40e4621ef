"""Add-k: pretend that everything was seen k times more often. k = 1 is Laplace, k = 0 maximum likelihood."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from hanok.classic.counts import Counts, Places
from hanok.classic.smoothing import SMOOTHINGS
from hanok.classic.smoothing.base import Smoothing, Tables, need
from hanok.core.config import PartConfig

GRID = 10.0 ** np.arange(-6, 2.05, 0.1)


@SMOOTHINGS.register("add_k", paper="https://doi.org/10.1006/csla.1999.0128")
class AddK(Smoothing):
    """p(w | h) = (c(h w) + k) / (c(h .) + k V) at the highest order, and nothing below it.

    An unseen context says only 1 / V. With k = 0, what was not seen is impossible: the model's perplexity on new text
    is infinite, which is what smoothing is for.
    """

    class Config(PartConfig):
        """How much to add (none: what makes held-out text likeliest)."""

        kind: Literal["add_k"] = "add_k"
        k: float | None = Field(default=1.0, ge=0)

    def __init__(self, config: Config, order: int) -> None:
        super().__init__(config, order)
        self.k = config.k

    def fit(self, counts: Counts, held_out: Places | None) -> Tables:
        """Fill the highest order; the others hand everything down."""
        k = likeliest(counts, need(held_out, "add_k's k")) if self.k is None else self.k
        size, top = counts.vocab_size, counts.levels[-1]
        base = 1 / size if k else 0.0
        tables = Tables([], [], base, {"k": k})
        for level in counts.levels[:-1]:
            tables.prob.append(np.full(len(level.keys), base))
            tables.rest.append(np.ones(level.contexts))
        total = top.totals()
        # A context with nothing behind it (the end of a document) is an unseen one.
        behind = np.maximum(total[top.context] + k * size, np.finfo(float).tiny)
        tables.prob.append((top.counts + k) / behind)
        tables.rest.append(np.divide(k * size, total + k * size, out=np.ones(len(total)), where=total > 0))
        return tables


def likeliest(counts: Counts, held_out: Places) -> float:
    """Return the k, to a tenth of a decade, under which the held-out text has the highest probability."""
    top = counts.levels[-1]
    node, context = held_out.nodes[-1], held_out.contexts[-1]
    seen = np.where(node >= 0, top.counts[node], 0)
    total = np.where(context >= 0, top.totals()[context], 0.0)
    scores = [np.log((seen + k) / (total + k * counts.vocab_size)).sum() for k in GRID]
    return float(GRID[int(np.argmax(scores))])
