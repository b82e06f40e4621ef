"""Knowing nothing."""

from __future__ import annotations

from hanok.eval.baseline import BASELINES, Held


@BASELINES.register("uniform")
def uniform(held: Held) -> float:
    """Every byte equally likely: 8 bits per byte."""
    return 8.0
