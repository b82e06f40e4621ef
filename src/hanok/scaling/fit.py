"""Fitting a law by variable projection: the coefficients are solved for inside, the exponents are searched outside."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import least_squares, minimize, nnls

from hanok.core.errors import UsageError
from hanok.scaling.law import LAWS, Law
from hanok.scaling.runs import Floats, Runs

DELTA = 1e-3
BOUNDS = (0.01, 3.0)  # of every exponent
STARTS = (0.1, 0.3, 0.6, 1.2)
FLOOR = 1e-12


@dataclass(frozen=True)
class Fit:
    """A fitted law: its numbers by name, the objective at the minimum and the log residuals of the runs."""

    law: str
    values: dict[str, float]
    delta: float
    objective: float
    residuals: Floats

    @property
    def freedom(self) -> int:
        """Return runs minus parameters."""
        return len(self.residuals) - len(self.values)

    @property
    def sigma(self) -> float:
        """Return the standard deviation of the log residuals, corrected for the parameters spent."""
        return float(np.sqrt(np.sum(self.residuals**2) / max(self.freedom, 1)))

    def predict(self, params: float | Floats, tokens: float | Floats) -> Floats:
        """Return the law's loss at N parameters and D tokens (broadcast against each other)."""
        return evaluate(LAWS[self.law], self.values, params, tokens)


def evaluate(law: Law, values: dict[str, float], params: float | Floats, tokens: float | Floats) -> Floats:
    """Return L(N, D) of a law with the given numbers."""
    powers = law.powers(*(values[name] for name in law.exponents))
    n, d = np.broadcast_arrays(np.asarray(params, dtype=np.float64), np.asarray(tokens, dtype=np.float64))
    terms = [values[name] * n**p * d**q for name, (p, q) in zip(law.coefficients, powers, strict=True)]
    return np.asarray(np.sum(terms, axis=0))


def fit(name: str, runs: Runs, *, delta: float = DELTA, start: dict[str, float] | None = None) -> Fit:
    """Minimise sum_i Huber_delta(ln L(N_i, D_i) - ln L_i) over coefficients >= 0 and exponents.

    For given exponents the coefficients come from reweighted non-negative least squares, which leaves a search in one
    or two dimensions; it starts from a grid of exponents (or from `start` alone) and ends in a joint polish.
    "Chinchilla Scaling: A replication attempt" (arXiv 2404.10102) shows why the sum, not the mean, is minimised to
    convergence.
    """
    law = LAWS[name]
    check(name, law, runs)
    problem = _Problem(law, runs, delta)
    if start is None:
        grid = itertools.product(STARTS, repeat=len(law.exponents))
        ranked = sorted((problem.project(np.array(point))[1], point) for point in grid)
        found = [problem.search(np.array(point)) for _, point in ranked[:3]]
    else:
        found = [np.array([start[exponent] for exponent in law.exponents])]
    # A refit from a fit is one of hundreds, whose spread is what counts.
    polish = problem.polish if start is None else partial(problem.polish, steps=(10.0, 1.0), tolerance=1e-6)
    objective, solution = min((polish(point) for point in found), key=lambda item: item[0])
    values = problem.values(solution)
    residuals = np.log(evaluate(law, values, runs.params, runs.tokens) / runs.loss)
    return Fit(name, values, delta, objective, residuals)


def check(name: str, law: Law, runs: Runs) -> None:
    """Refuse runs that cannot tell the law's parameters apart."""
    size = len(law.coefficients) + len(law.exponents)
    if len(runs) < size:
        raise UsageError(f"the {name} law has {size} parameters, so it needs at least {size} runs, not {len(runs)}")
    for what, values, least in (
        ("model sizes", runs.params, law.needs[0]),
        ("token counts", runs.tokens, law.needs[1]),
    ):
        if len(np.unique(values)) < least:
            raise UsageError(
                f"the {name} law needs at least {least} different {what}, these runs have {len(np.unique(values))}; "
                f"add runs or choose another law ({', '.join(LAWS)})"
            )


def huber(residuals: Floats, delta: float) -> float:
    """Return sum of r^2/2 where |r| <= delta and delta (|r| - delta/2) beyond."""
    size = np.abs(residuals)
    return float(np.sum(np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))))


class _Problem:
    """One fit in centred logarithms, where every coefficient is of the order of the loss."""

    def __init__(self, law: Law, runs: Runs, delta: float) -> None:
        self.law, self.delta, self.loss = law, delta, runs.loss
        logs = np.stack([np.log(runs.params), np.log(runs.tokens)])
        self.centre = logs.mean(axis=1)
        self.logs = logs - self.centre[:, None]

    def features(self, exponents: Floats) -> Floats:
        return np.asarray(np.exp(np.array(self.law.powers(*exponents)) @ self.logs).T)

    def project(self, exponents: Floats, rounds: int = 30) -> tuple[Floats, float]:
        """Return the best coefficients for these exponents and the objective there."""
        features = self.features(exponents)
        weights = np.ones_like(self.loss)
        anchor, target = self.loss, np.ones_like(self.loss)  # first round: relative residuals
        best, lowest = np.zeros(features.shape[1]), np.inf
        for _ in range(rounds):
            slopes = features / anchor[:, None]
            scale = np.linalg.norm(slopes, axis=0)
            root = np.sqrt(weights)
            coefficients = nnls(slopes / scale * root[:, None], target * root)[0] / scale
            model = np.maximum(features @ coefficients, FLOOR)
            residuals = np.log(model / self.loss)
            objective = huber(residuals, self.delta)
            gain = lowest - objective
            if gain > 0:
                best, lowest = coefficients, objective
            if gain <= 1e-12 * objective:
                break
            # Gauss-Newton on the logarithm: ln m(c') = ln m(c) + (X c' - X c) / m(c)
            weights = self.delta / np.maximum(np.abs(residuals), self.delta)
            anchor, target = model, 1.0 - residuals
        return best, lowest

    def search(self, exponents: Floats) -> Floats:
        """Return the exponents of the minimum near a start, by Nelder-Mead on the projected objective."""

        def objective(point: Floats) -> float:
            if np.any(point < BOUNDS[0]) or np.any(point > BOUNDS[1]):
                return float("inf")
            return self.project(point)[1]

        found = minimize(
            objective, exponents, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-14, "maxiter": 300}
        )
        return np.asarray(found.x, dtype=np.float64)

    def polish(
        self, exponents: Floats, *, steps: Sequence[float] = (100.0, 10.0, 3.0, 1.0), tolerance: float = 1e-12
    ) -> tuple[float, Floats]:
        """Return the joint minimum over coefficients and exponents near a projected one.

        Huber's threshold comes down in `steps`: started at its end, a step that leaves the quadratic zone can stall.
        """
        count = len(self.law.coefficients)
        low, high = BOUNDS
        bounds = ([0.0] * count + [low] * len(exponents), [np.inf] * count + [high] * len(exponents))
        inside = np.array([1e-9] * count + [low * 1.001] * len(exponents))
        point, cost = np.concatenate([self.project(exponents)[0], exponents]), np.inf
        for factor in steps:
            point = np.maximum(point, inside)
            point[count:] = np.minimum(point[count:], high * 0.999)
            found = least_squares(
                self.residuals,
                point,
                jac=self.jacobian,
                loss="huber",
                f_scale=self.delta * factor,
                bounds=bounds,
                x_scale="jac",
                max_nfev=100,
                xtol=tolerance,
                ftol=tolerance,
                gtol=tolerance,
            )
            point, cost = np.asarray(found.x), float(found.cost)
        return cost, point

    def residuals(self, point: Floats) -> Floats:
        """Return ln of model over measured loss, for coefficients followed by exponents."""
        count = len(self.law.coefficients)
        return np.asarray(np.log(np.maximum(self.features(point[count:]) @ point[:count], FLOOR) / self.loss))

    def jacobian(self, point: Floats) -> Floats:
        """Return the derivative of the residuals; the powers are linear in the exponents."""
        count = len(self.law.coefficients)
        coefficients, exponents = point[:count], point[count:]
        features = self.features(exponents)
        model = np.maximum(features @ coefficients, FLOOR)[:, None]
        origin = np.array(self.law.powers(*np.zeros(len(exponents))))
        columns = [features / model]
        for unit in np.eye(len(exponents)):
            slope = (np.array(self.law.powers(*unit)) - origin) @ self.logs
            columns.append((features * slope.T @ coefficients)[:, None] / model)
        return np.hstack(columns)

    def values(self, point: Floats) -> dict[str, float]:
        """Return the numbers by name, in the units of the runs."""
        count = len(self.law.coefficients)
        powers = np.array(self.law.powers(*point[count:]))
        coefficients = point[:count] * np.exp(-powers @ self.centre)
        names = (*self.law.coefficients, *self.law.exponents)
        return {name: float(value) for name, value in zip(names, (*coefficients, *point[count:]), strict=True)}
