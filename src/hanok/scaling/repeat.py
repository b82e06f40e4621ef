"""Data-constrained scaling: what repeated epochs and excess parameters are still worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hanok.scaling.runs import Floats


@dataclass(frozen=True)
class Repeated:
    """The law of Muennighoff et al. 2023 (arXiv 2305.16264) with its published constants."""

    A: float = 520.825
    B: float = 1487.716
    E: float = 1.869144
    alpha: float = 0.3526596
    repeat_tokens: float = 15.387756
    repeat_params: float = 5.309743

    def params_for(self, unique: float | Floats) -> Floats:
        """Return the size that U unique tokens are compute-optimal for, N*(D*^-1(U))."""
        g = (self.A / self.B) ** (1 / (2 * self.alpha))
        return np.asarray(np.multiply(unique, g**2), dtype=np.float64)

    def loss(self, params: float | Floats, tokens: float | Floats, unique: float | Floats) -> Floats:
        """Return E + A/N'^alpha + B/D'^alpha, where N' and D' decay what goes beyond U_N and U."""
        unique = np.minimum(np.asarray(unique, dtype=np.float64), tokens)
        base = np.minimum(params, self.params_for(unique))
        size = _decayed(base, np.asarray(params) / base - 1, self.repeat_params)
        data = _decayed(unique, np.asarray(tokens) / unique - 1, self.repeat_tokens)
        return np.asarray(self.E + self.A / size**self.alpha + self.B / data**self.alpha)


def _decayed(unique: Floats, repeats: Floats, half: float) -> Floats:
    return np.asarray(unique + unique * half * (1 - np.exp(-repeats / half)))
