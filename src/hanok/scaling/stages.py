"""The ladder as a stage, and the fit of somebody's own runs as a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hanok.core.artifact import atomic_write
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.stage import CHECKPOINTS, Stage
from hanok.scaling.fit import DELTA, Fit, fit
from hanok.scaling.interval import Bootstrap, Prediction, Resample, bootstrap
from hanok.scaling.ladder import Climber, LadderConfig, Rung, make_plan, tokens_available
from hanok.scaling.plan import optimal
from hanok.scaling.runs import Runs

CURVE_POINTS = 12
PAIRS_FROM = 40  # runs, from which on whole runs can be resampled


def run_ladder(config: LadderConfig, inputs: Mapping[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Train the rungs, fit, write prediction.json, and only then train the held-out run and compare."""
    climber = Climber(config, inputs["tokens"], out / CHECKPOINTS, log)
    log.progress("ladder: planning")
    plan = make_plan(config, out, climber.cost)
    rows = []
    for number, rung in enumerate(plan.rungs, 1):
        log.progress(
            f"ladder: run {number}/{len(plan.rungs) + 1}, {climber.params(rung):,} weights, {rung.steps} steps"
        )
        rows.append(_row(climber, rung, climber.loss(rung)))
    runs = Runs.of((row["params"], row["tokens"], row["loss"]) for row in rows)
    runs.write_csv(out / "runs.csv")
    log.progress("ladder: fitting")
    fitted = fit(config.law, runs, delta=config.delta)
    found = bootstrap(fitted, runs, samples=config.samples, seed=config.seed)
    held = plan.held_out
    prediction = found.predict(climber.params(held), climber.trained_tokens(held), config.level)
    _write(out / "prediction.json", _said(prediction))
    log.info(f"ladder: the held-out run is predicted to reach {_range(prediction)}; now it is trained")
    log.progress(f"ladder: held-out run, {climber.params(held):,} weights, {held.steps} steps")
    measured = climber.loss(held)
    verdict = compare(prediction, measured)
    summary = {
        "runs": rows,
        "held_out": _row(climber, held, measured),
        "fit": summarise(found, config.level),
        "prediction": _said(prediction),
        **verdict,
        "curves": _curves(found, [*plan.rungs, held], climber, config.level),
        "unit": "validation loss in nats per token; N counts the weights in matrix products",
        "epochs": climber.trained_tokens(held) / tokens_available(inputs["tokens"]),
    }
    _write(out / "ladder.json", summary)
    return {"predicted": prediction.loss, **verdict, "low": prediction.interval.low, "high": prediction.interval.high}


def compare(prediction: Prediction, measured: float) -> dict[str, Any]:
    """Say plainly whether the measured loss lies in the interval that was printed before."""
    inside = measured in prediction.interval
    where = "inside" if inside else ("above" if measured > prediction.interval.high else "below")
    level = f"{100 * prediction.interval.level:g} %"
    verdict = f"predicted {_range(prediction)}, measured {measured:.3f}: {where} the {level} interval"
    return {"measured": measured, "inside": inside, "error": measured / prediction.loss - 1, "verdict": verdict}


def fit_runs(
    runs: Runs,
    law: str = "chinchilla",
    *,
    delta: float = DELTA,
    samples: int = 200,
    level: float = 0.9,
    seed: int = 0,
    targets: Sequence[tuple[float, float]] = (),
    flops: Sequence[float] = (),
) -> dict[str, Any]:
    """Fit a law to runs, with intervals, predictions at (N, D) `targets`, and the best allocation of `flops`.

    Many runs are resampled whole (the published practice), a few by their residuals.
    """
    fitted = fit(law, runs, delta=delta)
    resample: Resample = "pairs" if len(runs) >= PAIRS_FROM else "residuals"
    found = bootstrap(fitted, runs, samples=samples, resample=resample, seed=seed)
    result = summarise(found, level) | {"resample": resample}
    if targets:
        result["predictions"] = [_said(found.predict(params, tokens, level)) for params, tokens in targets]
    if flops:
        result["optimal"] = [asdict(optimal(fitted.values, budget)) for budget in flops]
    return result


def summarise(found: Bootstrap, level: float) -> dict[str, Any]:
    """Return a fit as JSON-able data: each number with its interval, and how well the curve follows the runs."""
    fitted = found.fit
    intervals = {name: found.interval(name, level) for name in fitted.values}
    return {
        "law": fitted.law,
        "values": fitted.values,
        "intervals": {name: [interval.low, interval.high] for name, interval in intervals.items()},
        "level": level,
        "samples": len(found.refits),
        "runs": len(fitted.residuals),
        "objective": fitted.objective,
        "delta": fitted.delta,
        "residual_percent": 100 * fitted.sigma,
        "exponents": _exponents(fitted),
    }


def _exponents(fitted: Fit) -> dict[str, float] | None:
    """Return N ~ C^a and D ~ C^b, where the law trades size for data at all."""
    try:
        best = optimal(fitted.values, 1e18)
    except UsageError:
        return None
    return {"a": best.a, "b": best.b}


def _row(climber: Climber, rung: Rung, loss: float) -> dict[str, Any]:
    params, tokens = climber.params(rung), climber.trained_tokens(rung)
    return {"dials": rung.dials, "steps": rung.steps, "params": params, "tokens": tokens, "loss": loss}


def _curves(found: Bootstrap, rungs: Sequence[Rung], climber: Climber, level: float) -> list[dict[str, Any]]:
    """Return the fitted loss over tokens for each size, with the interval for a new run."""
    sizes = sorted({climber.params(rung) for rung in rungs})
    seen = [climber.trained_tokens(rung) for rung in rungs]
    grid = np.geomspace(min(seen), 1.6 * max(seen), CURVE_POINTS)
    curves = []
    for params in sizes:
        points = [found.predict(params, float(tokens), level) for tokens in grid]
        columns: dict[str, Callable[[Prediction], float]] = {
            "tokens": lambda p: p.tokens,
            "loss": lambda p: p.loss,
            "low": lambda p: p.interval.low,
            "high": lambda p: p.interval.high,
        }
        curves.append({"params": params, **{name: [read(p) for p in points] for name, read in columns.items()}})
    return curves


def _said(prediction: Prediction) -> dict[str, float]:
    interval = prediction.interval
    return {
        "params": prediction.params,
        "tokens": prediction.tokens,
        "loss": prediction.loss,
        "low": interval.low,
        "high": interval.high,
        "level": interval.level,
    }


def _range(prediction: Prediction) -> str:
    return f"{prediction.loss:.3f} [{prediction.interval.low:.3f}, {prediction.interval.high:.3f}]"


def _write(path: Path, data: dict[str, Any]) -> None:
    atomic_write(path, json.dumps(data, indent=2) + "\n")


LADDER = Stage("ladder", "ladder", LadderConfig, run_ladder, {"tokens": "tokens"})
