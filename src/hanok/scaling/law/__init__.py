"""Scaling laws, one file each: every law is a sum of monomials in parameters N and tokens D."""

from __future__ import annotations

from typing import Protocol

from hanok.core.registry import Registry

Power = tuple[float, float]


class Law(Protocol):
    """L(N, D) = sum_j c_j N^p_j D^q_j with c_j >= 0; `powers` turns the exponents into the (p_j, q_j).

    `needs` is the number of different N and of different D without which the exponents cannot be told apart.
    """

    coefficients: tuple[str, ...]
    exponents: tuple[str, ...]
    needs: tuple[int, int]

    def powers(self, *exponents: float) -> tuple[Power, ...]: ...


LAWS: Registry[Law] = Registry("scaling law", __name__)
