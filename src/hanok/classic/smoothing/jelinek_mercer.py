"""Jelinek-Mercer: a weighted sum of all orders, with the weights that a held-out text asks for."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from hanok.classic.counts import Counts, Floats, Ints, Level, Places, Truths
from hanok.classic.smoothing import SMOOTHINGS
from hanok.classic.smoothing.base import Smoothing, Tables, interpolate, need, share
from hanok.core.config import PartConfig
from hanok.core.errors import UsageError

EDGE = 1e-4  # a weight of 1 would make what it hands down impossible, and EM could never leave it


@SMOOTHINGS.register("jelinek_mercer", paper="https://doi.org/10.1006/csla.1999.0128")
class JelinekMercer(Smoothing):
    """Linear interpolation: p_k(w | h) = l_k(h) c(h w) / c(h .) + (1 - l_k(h)) p_{k-1}(w | h'), and p_0 is uniform.

    The weights l are found by expectation maximisation on held-out text. Contexts share one by how often they were
    seen, in `buckets` of powers of two, since a frequent context deserves more trust; an unseen one has the weight 0.
    """

    class Config(PartConfig):
        """The weight of each order from 1 up (none: estimated), and how many weights each order has."""

        kind: Literal["jelinek_mercer"] = "jelinek_mercer"
        weights: tuple[float, ...] | None = None
        buckets: int = Field(default=12, ge=1, le=64)
        steps: int = Field(default=50, ge=1)

    def __init__(self, config: Config, order: int) -> None:
        super().__init__(config, order)
        self.weights, self.buckets, self.steps = config.weights, config.buckets, config.steps
        if self.weights is not None and len(self.weights) != order:
            raise UsageError(f"an n-gram of order {order} needs as many weights: {list(self.weights)}")
        if self.weights is not None and not all(0 <= weight <= 1 for weight in self.weights):
            raise UsageError(f"weights lie between 0 and 1: {list(self.weights)}")

    def fit(self, counts: Counts, held_out: Places | None) -> Tables:
        """Estimate the weights if they are open, and mix the orders."""
        if self.weights is not None:
            weights = [np.full(self.buckets, weight) for weight in self.weights]
        else:
            weights = self.estimate(counts, need(held_out, "jelinek_mercer's weights"))[0]
        parts = []
        for level, weight in zip(counts.levels, weights, strict=True):
            totals = level.totals()
            mine = np.where(totals > 0, weight[bucket(totals, self.buckets)], 0.0)
            parts.append((mine[level.context] * share(level, level.counts, totals), 1 - mine))
        return interpolate(counts, parts, weights=[weight.tolist() for weight in weights])

    def estimate(self, counts: Counts, held_out: Places) -> tuple[list[Floats], list[float]]:
        """Return the weights by order and bucket, and the mean log-likelihood of the held-out text at every step."""
        views = [self._view(counts.levels[k], held_out, k) for k in range(self.order)]
        weights = [np.full(self.buckets, 0.5) for _ in views]
        likelihoods: list[float] = []
        for _ in range(self.steps):
            mine = [np.where(known, w[b], 0.0) for w, (_, known, b) in zip(weights, views, strict=True)]
            mixed = [np.full(len(mine[0]), 1 / counts.vocab_size)]
            for weight, (likelihood, _, _) in zip(mine, views, strict=True):
                mixed.append(weight * likelihood + (1 - weight) * mixed[-1])
            likelihoods.append(float(np.log(mixed[-1]).mean()))
            reach = 1 / mixed[-1]  # p(text was handed down to this order) / p(text)
            for k in reversed(range(self.order)):
                likelihood, known, place = views[k]
                used = np.bincount(place[known], (reach * mine[k] * likelihood)[known], self.buckets)
                came = np.bincount(place[known], (reach * mixed[k + 1])[known], self.buckets)
                weights[k] = np.divide(used, came, out=weights[k].copy(), where=came > 0).clip(EDGE, 1 - EDGE)
                reach = reach * (1 - mine[k])
        return weights, likelihoods

    def _view(self, level: Level, held_out: Places, k: int) -> tuple[Floats, Truths, Ints]:
        """Return, for each held-out token, its relative frequency, whether its context is known, and its bucket."""
        node, context, totals = held_out.nodes[k], held_out.contexts[k], level.totals()
        total = np.where(context >= 0, totals[context], 0.0)
        seen = np.where(node >= 0, level.counts[node], 0)
        return seen / np.maximum(total, 1), total > 0, bucket(total, self.buckets)


def bucket(totals: Floats, buckets: int) -> Ints:
    """Return the power of two below each total, as far as there are buckets."""
    return np.minimum(np.log2(np.maximum(totals, 1)).astype(np.int64), buckets - 1)
