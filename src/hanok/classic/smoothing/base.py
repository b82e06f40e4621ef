"""What every smoothing makes of the counts: one table of probabilities and back-off weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hanok.classic.counts import Counts, Floats, Level, Places
from hanok.core.config import PartConfig
from hanok.core.errors import UsageError


@dataclass(frozen=True)
class Tables:
    """p(w | h) = prob[h w] where h w was seen, else rest[h] p(w | h'), where h' is h without its first token.

    Interpolation has this form too, once the sum of its orders is written out for what was seen. `rest` is 1 behind an
    unseen h; `base` is what an unseen token gets below order 1. `learned` holds the parameters that were estimated.
    """

    prob: list[Floats]
    rest: list[Floats]
    base: float
    learned: dict[str, Any] = field(default_factory=dict)


class Smoothing(ABC):
    """A way to share probability out; `held_out` is a text to estimate parameters on that the config leaves open."""

    class Config(PartConfig):
        """The parameters; those left open are estimated."""

    def __init__(self, config: PartConfig, order: int) -> None:
        self.config = config
        self.order = order

    @abstractmethod
    def fit(self, counts: Counts, held_out: Places | None) -> Tables:
        """Turn counts into tables."""


def interpolate(counts: Counts, parts: Iterable[tuple[Floats, Floats]], **learned: Any) -> Tables:
    """Return p_k(w | h) = gain_k[h w] + rest_k[h] p_{k-1}(w | h'), from (gain, rest) per level; p_0 is uniform."""
    tables = Tables([], [], 1 / counts.vocab_size, learned)
    lower = np.full(1, tables.base)
    for level, (gain, rest) in zip(counts.levels, parts, strict=True):
        lower = gain + rest[level.context] * lower[level.suffix]
        tables.prob.append(lower)
        tables.rest.append(rest)
    return tables


def discounted(level: Level, counts: npt.NDArray[Any], discount: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """Take a discount off each count: what a k-gram gains is (c - D) / c(h .), what h hands down the sum of D / c(h .).

    A context with nothing behind it (the end of a document) hands everything down.
    """
    taken = np.minimum(counts, discount)
    return share(level, counts - taken, level.totals(counts)), rest_of(level.totals(taken), level.totals(counts))


def share(level: Level, counts: npt.NDArray[Any], totals: Floats) -> Floats:
    """Return counts over the total of their context, 0 where that is 0."""
    behind = totals[level.context]
    result: Floats = np.divide(counts, behind, out=np.zeros(len(counts)), where=behind > 0)
    return result


def rest_of(left: Floats, totals: Floats) -> Floats:
    """Return what is left over the total of each context, 1 where that is 0."""
    return np.divide(left, totals, out=np.ones(len(totals)), where=totals > 0)


def need(held_out: Places | None, what: str) -> Places:
    """Return the held-out text, or say that `what` has to come from somewhere."""
    if held_out is None:
        raise UsageError(f"{what} is estimated on held-out text: give the value, or `held_out` documents to fit")
    return held_out
