"""The law in compute alone, for runs along one allocation."""

from __future__ import annotations

from hanok.scaling.law import LAWS, Power


class Compute:
    """L = E + K / (N D)^gamma, the product standing for compute C = 6 N D."""

    coefficients: tuple[str, ...] = ("E", "K")
    exponents: tuple[str, ...] = ("gamma",)
    needs: tuple[int, int] = (1, 1)

    def powers(self, *exponents: float) -> tuple[Power, ...]:
        (gamma,) = exponents
        return (0.0, 0.0), (-gamma, -gamma)


LAWS.register("compute", paper="https://arxiv.org/abs/2001.08361")(Compute())
