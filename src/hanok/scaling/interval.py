"""How sure a fit is: resampled refits for its parameters, and an interval that a new run's loss should fall in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hanok.core.errors import UsageError
from hanok.core.rng import Streams
from hanok.scaling.fit import Fit, check, fit
from hanok.scaling.law import LAWS
from hanok.scaling.runs import Floats, Runs

Resample = Literal["pairs", "residuals"]


@dataclass(frozen=True)
class Interval:
    """A percentile interval; `level` is the share of resamples inside."""

    low: float
    high: float
    level: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Prediction:
    """A loss said before the run: the law's value and the interval in which one new run should fall."""

    params: float
    tokens: float
    loss: float
    interval: Interval


@dataclass(frozen=True)
class Bootstrap:
    """Refits of resampled runs; `sigmas` is the noise drawn with each."""

    fit: Fit
    refits: list[Fit]
    sigmas: Floats
    seed: int

    def interval(self, name: str, level: float = 0.9) -> Interval:
        """Return the percentile interval of one fitted number."""
        return percentiles(np.array([refit.values[name] for refit in self.refits]), level)

    def predict(self, params: float, tokens: float, level: float = 0.9) -> Prediction:
        """Predict the loss of one new run: the spread of the refits plus the noise of a single run."""
        centre = float(self.fit.predict(params, tokens))
        losses = np.array([float(refit.predict(params, tokens)) for refit in self.refits])
        noise = Streams(self.seed).numpy("scaling/new-run").standard_normal(len(losses))
        return Prediction(params, tokens, centre, percentiles(losses * np.exp(self.sigmas * noise), level))


def bootstrap(
    fitted: Fit, runs: Runs, *, samples: int = 400, resample: Resample = "residuals", seed: int = 0
) -> Bootstrap:
    """Refit `samples` resampled sets of runs.

    `pairs` draws whole runs with replacement (many runs; the published practice). `residuals` keeps the design and
    draws new log-normal noise around the fitted curve, its variance from the scaled inverse chi-square of the residual
    sum of squares: with a handful of runs the unknown noise level matters as much as the curve, and this is what makes
    a 90 % interval of a linear law exact.
    """
    if fitted.freedom < 1:
        raise UsageError(
            f"{len(runs)} runs leave nothing to judge the {fitted.law} law's {len(fitted.values)} parameters by: "
            "add a run, or choose a law with fewer"
        )
    random = Streams(seed).numpy("scaling/bootstrap")
    curve = fitted.predict(runs.params, runs.tokens)
    squares = float(np.sum(fitted.residuals**2))
    refits, sigmas = [], np.full(samples, fitted.sigma)
    for index in range(samples):
        if resample == "pairs":
            drawn = _pairs(fitted, runs, random)
        else:
            sigmas[index] = np.sqrt(squares / random.chisquare(fitted.freedom))
            drawn = runs.with_loss(curve * np.exp(sigmas[index] * random.standard_normal(len(runs))))
        refits.append(fit(fitted.law, drawn, delta=fitted.delta, start=fitted.values))
    return Bootstrap(fitted, refits, sigmas, seed)


def percentiles(values: Floats, level: float) -> Interval:
    """Return the central interval that holds `level` of the values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def _pairs(fitted: Fit, runs: Runs, random: np.random.Generator) -> Runs:
    """Draw runs with replacement until the draw can be fitted at all."""
    for _ in range(1000):
        drawn = runs.take(random.integers(0, len(runs), len(runs)))
        try:
            check(fitted.law, LAWS[fitted.law], drawn)
        except UsageError:
            continue
        return drawn
    raise UsageError(f"{len(runs)} runs are too few to resample in pairs for the {fitted.law} law: use residuals")
