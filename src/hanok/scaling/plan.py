"""Compute-optimal allocation in closed form, and the constants that papers have printed."""

from __future__ import annotations

from dataclasses import dataclass

from hanok.core.errors import UsageError

FLOPS_PER_PARAM_TOKEN = 6.0
PF_DAY = 8.64e19

# L = E + A / N^alpha + B / D^beta. The printed set is rounded; `tex` is from the paper's source, `epoch` a refit.
CHINCHILLA: dict[str, dict[str, float]] = {
    "printed": {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28},
    "tex": {
        "E": 2.718281828459045**0.5267228,
        "A": 2.718281828459045**6.0073404,
        "B": 2.718281828459045**6.0179186,
        "alpha": 0.33917084,
        "beta": 0.2849083,
    },
    "epoch": {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658},
}


@dataclass(frozen=True)
class Allocation:
    """How to spend a budget: N ~ C^a, D ~ C^b, and both for this C."""

    flops: float
    params: float
    tokens: float
    a: float
    b: float


def optimal(values: dict[str, float], flops: float) -> Allocation:
    """Return N* = G (C/6)^a and D* = (C/6)^b / G with a = beta/(alpha+beta), G = (alpha A / beta B)^(1/(alpha+beta)).

    A model with one exponent `eta` has alpha = beta = eta. Hoffmann et al. 2022 (arXiv 2203.15556), equation 4.
    """
    alpha, beta = values.get("alpha", values.get("eta", 0.0)), values.get("beta", values.get("eta", 0.0))
    if min(alpha, beta, values.get("A", 0.0), values.get("B", 0.0)) <= 0:
        raise UsageError(
            "an optimal allocation needs A, B, alpha and beta above zero: the fit does not trade size for data"
        )
    a, b = beta / (alpha + beta), alpha / (alpha + beta)
    g = (alpha * values["A"] / (beta * values["B"])) ** (1 / (alpha + beta))
    product = flops / FLOPS_PER_PARAM_TOKEN
    return Allocation(flops, g * product**a, product**b / g, a, b)


def kaplan_loss_params(params: float) -> float:
    """Return (Nc/N)^0.076 with Nc = 8.8e13 non-embedding parameters (Kaplan et al. 2020, arXiv 2001.08361)."""
    return float((8.8e13 / params) ** 0.076)


def kaplan_loss_tokens(tokens: float) -> float:
    """Return (Dc/D)^0.095 with Dc = 5.4e13 tokens (Kaplan et al. 2020)."""
    return float((5.4e13 / tokens) ** 0.095)


def kaplan_critical_batch(loss: float) -> float:
    """Return the critical batch 2e8 / L^(1/0.21) in tokens (Kaplan et al. 2020)."""
    return float(2e8 / loss ** (1 / 0.21))


def kaplan_tokens_needed(params: float) -> float:
    """Return D = 5e3 N^0.74, below which a model overfits (Kaplan et al. 2020)."""
    return float(5e3 * params**0.74)
