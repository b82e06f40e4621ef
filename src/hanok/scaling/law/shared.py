"""The law with one exponent for size and data, for which few runs suffice."""

from __future__ import annotations

from hanok.scaling.law import LAWS, Power


class Shared:
    """L = E + A / N^eta + B / D^eta: loss along a fixed D/N falls as compute to the power -eta/2."""

    coefficients: tuple[str, ...] = ("E", "A", "B")
    exponents: tuple[str, ...] = ("eta",)
    needs: tuple[int, int] = (2, 2)

    def powers(self, *exponents: float) -> tuple[Power, ...]:
        (eta,) = exponents
        return (0.0, 0.0), (-eta, 0.0), (0.0, -eta)


LAWS.register("shared", paper="https://arxiv.org/abs/2403.08540")(Shared())
