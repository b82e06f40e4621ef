"""The law in data alone, for one model size."""

from __future__ import annotations

from hanok.scaling.law import LAWS, Power


class Tokens:
    """L = E + B / D^beta: all runs are of one size, or size hardly matters yet."""

    coefficients: tuple[str, ...] = ("E", "B")
    exponents: tuple[str, ...] = ("beta",)
    needs: tuple[int, int] = (1, 3)

    def powers(self, *exponents: float) -> tuple[Power, ...]:
        (beta,) = exponents
        return (0.0, 0.0), (0.0, -beta)


LAWS.register("tokens", paper="https://arxiv.org/abs/2001.08361")(Tokens())
