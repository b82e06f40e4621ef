"""Which order and which smoothing: the ones that give held-out text the highest probability."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hanok.classic.counts import Ints
from hanok.classic.ngram import NGram
from hanok.core.errors import UsageError


@dataclass(frozen=True)
class Trial:
    """One configuration and its perplexity on the held-out text."""

    order: int
    smoothing: str
    perplexity: float


def choose(
    documents: Sequence[Sequence[int] | Ints],
    held_out: Sequence[Sequence[int] | Ints],
    vocab_size: int,
    *,
    orders: Iterable[int],
    smoothings: Sequence[Any],
) -> tuple[NGram, list[Trial]]:
    """Fit every order with every smoothing and return the best on held-out text, and what each one got.

    The smoothings that estimate parameters do so on the same text; report the final figure on another one.
    """
    best: NGram | None = None
    trials: list[Trial] = []
    lowest = math.inf
    for order in orders:
        for smoothing in smoothings:
            config = NGram.Config.parse({"order": order, "vocab_size": vocab_size, "smoothing": smoothing})
            model = NGram(config).fit(documents, held_out)
            perplexity = model.perplexity(held_out)
            trials.append(Trial(order, config.smoothing.kind, perplexity))
            if best is None or perplexity < lowest:
                best, lowest = model, perplexity
    if best is None:
        raise UsageError("there is nothing to choose from: give at least one order and one smoothing")
    return best, trials
