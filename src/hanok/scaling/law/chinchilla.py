"""The parametric law of Chinchilla's third approach."""

from __future__ import annotations

from hanok.scaling.law import LAWS, Power


class Chinchilla:
    """L = E + A / N^alpha + B / D^beta."""

    coefficients: tuple[str, ...] = ("E", "A", "B")
    exponents: tuple[str, ...] = ("alpha", "beta")
    needs: tuple[int, int] = (3, 3)

    def powers(self, *exponents: float) -> tuple[Power, ...]:
        alpha, beta = exponents
        return (0.0, 0.0), (-alpha, 0.0), (0.0, -beta)


LAWS.register("chinchilla", paper="https://arxiv.org/abs/2203.15556")(Chinchilla())
