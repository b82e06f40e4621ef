from functools import partial

import numpy as np
import pytest

from hanok.core.errors import UsageError
from hanok.scaling.fit import fit
from hanok.scaling.interval import Interval, bootstrap
from hanok.scaling.runs import Runs

SIZES, BUDGETS = (5e4, 1.5e5, 4.5e5), (6e4, 1.2e5, 2.4e5)
GRID = [(n, d) for n in SIZES for d in BUDGETS]
HELD_OUT = (6e5, 5e5)


def truth(params, tokens):
    return 1.6 + (1e4 / np.asarray(params)) ** 0.35 + 6 * (1e4 / np.asarray(tokens)) ** 0.4


def ladder(rng, noise):
    params, tokens = np.array(GRID).T
    return Runs(params, tokens, truth(params, tokens) * np.exp(noise * rng.standard_normal(len(GRID))))


def coverage(law, trials, noise, interval_of):
    hits = 0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        runs = ladder(rng, noise)
        measured = float(truth(*HELD_OUT) * np.exp(noise * rng.standard_normal()))
        hits += measured in interval_of(fit(law, runs), runs, seed)
    return hits / trials


def honest(fitted, runs, seed, samples=60):
    return bootstrap(fitted, runs, samples=samples, seed=seed).predict(*HELD_OUT).interval


def plug_in(fitted, runs, seed):
    """The control: the fitted curve is taken for the truth, and its residuals for the noise."""
    centre, rms = float(fitted.predict(*HELD_OUT)), float(np.sqrt(np.mean(fitted.residuals**2)))
    return Interval(centre * np.exp(-1.645 * rms), centre * np.exp(1.645 * rms), 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["chinchilla", "shared"])
@pytest.mark.parametrize("noise", [0.003, 0.01])
def test_ninety_percent_means_ninety_percent(law, noise):
    assert coverage(law, 60, noise, honest) >= 0.8  # binomial s.e. 0.04


@pytest.mark.slow
def test_coverage_in_short_and_a_control_that_fails():
    assert coverage("chinchilla", 16, 0.005, partial(honest, samples=24)) >= 0.8
    assert coverage("chinchilla", 16, 0.005, plug_in) < 0.7


def test_pairs_of_many_runs_cover_the_parameters():
    rng = np.random.default_rng(0)
    params = np.exp(rng.uniform(np.log(1e5), np.log(1e7), 60))
    tokens = np.exp(rng.uniform(np.log(1e6), np.log(1e9), 60))
    runs = Runs(params, tokens, (1.7 + 400 / params**0.5 + 500 / tokens**0.4) * np.exp(0.01 * rng.standard_normal(60)))
    found = bootstrap(fit("chinchilla", runs), runs, samples=60, resample="pairs", seed=1)
    for name, value in {"E": 1.7, "alpha": 0.5, "beta": 0.4}.items():
        assert value in found.interval(name, 0.99)
        assert found.interval(name, 0.5).low >= found.interval(name, 0.9).low


@pytest.mark.slow
def test_same_seed_same_interval_and_level_widens():
    runs = ladder(np.random.default_rng(5), 0.01)
    fitted = fit("shared", runs)
    one, two = (bootstrap(fitted, runs, samples=30, seed=7).predict(*HELD_OUT) for _ in range(2))
    assert one == two
    boot = bootstrap(fitted, runs, samples=60, seed=7)
    narrow, wide = boot.predict(*HELD_OUT, level=0.5).interval, boot.predict(*HELD_OUT, level=0.95).interval
    assert wide.low < narrow.low < narrow.high < wide.high


def test_no_freedom_is_refused():
    runs = ladder(np.random.default_rng(0), 0.01)
    few = runs.take(np.array([0, 4, 8, 1, 5]))
    with pytest.raises(UsageError, match="nothing to judge"):
        bootstrap(fit("chinchilla", few), few)
