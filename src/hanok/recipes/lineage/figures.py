"""Figures that are compared: how far a row of answers reaches, and whether a difference is more than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]
LEVEL = 0.9  # of the questions right: so far a contestant "reaches"


class Gap(NamedTuple):
    """By how much one is better than another, and the standard error of that."""

    value: float
    se: float

    @property
    def sign(self) -> int:
        """Return 1 for better, -1 for worse, 0 where the difference is within two standard errors."""
        return 0 if abs(self.value) <= 2 * self.se else 1 if self.value > 0 else -1


def bits_gap(old: Json, new: Json) -> Gap:
    """Return the bits per byte that `new` saves over `old`, window by window."""
    sizes, saved = old["bytes"], [x - y for x, y in zip(old["bits"], new["bits"], strict=True)]
    total, n = sum(sizes), len(sizes)
    rate = sum(saved) / total
    spread = sum((x - rate * size) ** 2 for x, size in zip(saved, sizes, strict=True)) * n / (n - 1)
    return Gap(rate, math.sqrt(spread) / total)


def mean_right(row: Json, word: str, low: int, high: int) -> Gap:
    """Return the mean share of right answers over the tested k from `low` to `high`, and its standard error."""
    chosen = [each for each in row["answers"] if each["word"] == word and low <= each["k"] <= high]
    spread = sum(each["right"] * (1 - each["right"]) / each["n"] for each in chosen)
    return Gap(sum(each["right"] for each in chosen) / len(chosen), math.sqrt(spread) / len(chosen))


def answers_gap(old: Json, new: Json, word: str, low: int, high: int) -> Gap:
    """Return by how much the mean share of right answers of `new` is higher."""
    a, b = mean_right(old, word, low, high), mean_right(new, word, low, high)
    return Gap(b.value - a.value, math.hypot(a.se, b.se))


def reach_of(answers: Sequence[Json], word: str) -> int:
    """Return the longest k up to which every tested k was answered right in LEVEL of the cases; 0: not one."""
    best = 0
    for each in sorted((each for each in answers if each["word"] == word), key=lambda each: int(each["k"])):
        if each["right"] < LEVEL:
            break
        best = int(each["k"])
    return best
