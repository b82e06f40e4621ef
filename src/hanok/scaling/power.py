"""Straight lines through logarithms, for points that are optimal already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hanok.core.errors import UsageError
from hanok.scaling.runs import Floats


@dataclass(frozen=True)
class PowerLaw:
    """y = coefficient * x^exponent."""

    exponent: float
    coefficient: float

    def predict(self, x: float | Floats) -> Floats:
        """Return y at x."""
        return np.asarray(self.coefficient * np.asarray(x, dtype=np.float64) ** self.exponent)


def power_law(x: Floats, y: Floats) -> PowerLaw:
    """Fit a power law by ordinary least squares in log-log coordinates."""
    if len(x) < 2 or np.any(np.asarray(x) <= 0) or np.any(np.asarray(y) <= 0):
        raise UsageError("a power law needs at least two points, all positive")
    slope, intercept = np.polyfit(np.log(x), np.log(y), 1)
    return PowerLaw(float(slope), float(np.exp(intercept)))
