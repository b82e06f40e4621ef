"""Does the best learning rate stay put as the model widens? Several widths at several rates, with muP and without."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from hanok.core.artifact import atomic_write
from hanok.core.config import Config, spec_type
from hanok.core.errors import HanokError, Interrupted, UsageError
from hanok.core.log import Log
from hanok.core.stage import CHECKPOINTS, Stage, run_stage
from hanok.train.data import shards_of
from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.adamw import AdamWConfig
from hanok.train.schedule.linear import Linear
from hanok.train.stages import PretrainConfig, pretrain
from hanok.train.transfer import TransferConfig

Arm = Literal["mup", "plain"]
Rows = list[dict[str, Any]]


class WidthsConfig(Config):
    """Which widths of a preset to train at which rates, for the same steps on the same rows.

    The `base` width (the smallest, unless given) is one run in both arms. A curve is the mean over `seeds` seeds.
    An optimizer with two rates (Muon) has both turned together; `rates` are those of its first.
    """

    preset: str = "llama-tiny"
    dials: dict[str, int] = {"depth": 2, "heads": 4, "kv_heads": 4}
    widths: tuple[int, ...] = (32, 64, 128, 256)
    base: int | None = Field(None, gt=0)
    rates: tuple[float, ...] = tuple(2.0**-k for k in range(10, 3, -1))
    optimizer: spec_type(OPTIMIZERS) = AdamWConfig(weight_decay=0.0)  # type: ignore[valid-type]
    arms: tuple[Arm, ...] = ("mup", "plain")
    steps: int = Field(200, ge=1)
    batch: int = Field(8, ge=1)
    length: int = Field(64, ge=2)
    seeds: int = Field(1, ge=1)
    seed: int = 0
    validation_tokens: int = Field(8192, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.widths)) < 2 or len(set(self.rates)) < 3:
            raise ValueError("compare two widths or more, at three rates or more")
        if list(self.rates) != sorted(self.rates) or list(self.widths) != sorted(self.widths) or self.rates[0] <= 0:
            raise ValueError("widths and rates go upwards, and rates are above 0")
        for width in self.widths:
            self.recipe("mup", width, self.rates[0], 0)
        return self

    def recipe(self, arm: Arm, width: int, rate: float, seed: int) -> PretrainConfig:
        """Return how one run is trained."""
        base, changes = self.base or self.widths[0], {"lr": rate}
        if "adamw" in type(self.optimizer).model_fields:
            second = self.optimizer.adamw
            changes["adamw"] = second.model_copy(update={"lr": second.lr * rate / self.optimizer.lr})
        return PretrainConfig(
            preset=self.preset,
            dials={**self.dials, "dim": width},
            transfer=TransferConfig(dials={"dim": base}) if arm == "mup" and width != base else None,
            optimizer=self.optimizer.model_copy(update=changes),
            schedule=Linear.Config(final=0.0),
            steps=self.steps,
            batch=self.batch,
            length=self.length,
            seed=self.seed + seed,
            validation_tokens=self.validation_tokens,
            save_seconds=3600.0,
        )


def compare_widths(config: WidthsConfig, inputs: Mapping[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Train every width at every rate, find where curves are lowest, and write results.json, results.csv, table.md."""
    tokens, folder = inputs["tokens"], out / CHECKPOINTS
    if shards_of(tokens, "valid") is None:
        raise UsageError(f"{tokens} holds no validation shards (valid/index.json), which rates are judged by")
    runs = len(config.arms) * len(config.widths) * len(config.rates) * config.seeds
    curves: Rows = []
    done = 0
    for arm in config.arms:
        for width in config.widths:
            losses = []
            for rate in config.rates:
                log.progress(f"widths: {arm}, width {width}, rate {rate:.3g} ({done + 1}/{runs})")
                each = [_loss(config.recipe(arm, width, rate, seed), tokens, folder) for seed in range(config.seeds)]
                losses.append(None if None in each else fmean(loss for loss in each if loss is not None))
                done += config.seeds
            curves.append({"arm": arm, "width": width, "losses": losses, **lowest(config.rates, losses)})
    results = {
        "rates": list(config.rates),
        "steps": config.steps,
        "trained_tokens": config.steps * config.batch * config.length,
        "seeds": config.seeds,
        "optimizer": config.optimizer.kind,
        "unit": "validation loss in nats per token; no number: the run diverged. best_rate: vertex of a parabola",
        "curves": curves,
        "moves": {arm: moved([c for c in curves if c["arm"] == arm], config.rates) for arm in config.arms},
    }
    results["verdicts"] = [verdict(arm, move) for arm, move in results["moves"].items()]
    atomic_write(out / "results.json", json.dumps(results, indent=2) + "\n")
    atomic_write(out / "results.csv", as_csv(results))
    atomic_write(out / "table.md", as_markdown(results))
    return {f"{arm}_moved": round(move["octaves"], 3) for arm, move in results["moves"].items()}


def lowest(rates: Sequence[float], losses: Sequence[float | None]) -> dict[str, Any]:
    """Return where a curve is lowest: the vertex of the parabola through the best rate and its neighbours.

    At an edge of the grid, or beside a run that diverged, it is the best rate itself; `edge` says so.
    """
    found = [(loss, place) for place, loss in enumerate(losses) if loss is not None]
    if not found:
        return {"best_rate": None, "best_loss": None, "edge": True}
    best, place = min(found)
    beside = [losses[i] if 0 <= i < len(losses) else None for i in (place - 1, place + 1)]
    x = math.log2(rates[place])
    if beside[0] is None or beside[1] is None:
        return {"best_rate": rates[place], "best_loss": best, "edge": True}
    left, right = math.log2(rates[place - 1]) - x, math.log2(rates[place + 1]) - x
    rise_left, rise_right = beside[0] - best, beside[1] - best
    slope = rise_right * left**2 - rise_left * right**2
    curve = rise_right * left - rise_left * right
    shift = 0.5 * slope / curve if curve else 0.0
    return {"best_rate": 2 ** (x + shift), "best_loss": best, "edge": False}


def moved(curves: Rows, rates: Sequence[float]) -> dict[str, Any]:
    """Return how far the best rate moved from the smallest width to the largest, and what keeping it would cost there.

    `octaves` is log2 of the ratio of best rates; `regret` what the largest width loses at the rate that was best for
    the smallest one (None: it diverges).
    """
    first, last = curves[0], curves[-1]
    if first["best_rate"] is None or last["best_rate"] is None:
        raise UsageError("every run of a width diverged: sweep lower rates")
    known = [(loss, rate) for loss, rate in zip(first["losses"], rates, strict=True) if loss is not None]
    kept = last["losses"][list(rates).index(min(known)[1])]
    return {
        "times_wider": last["width"] / first["width"],
        "octaves": math.log2(last["best_rate"] / first["best_rate"]),
        "regret": None if kept is None else kept - last["best_loss"],
        "edge": first["edge"] or last["edge"],
    }


def verdict(arm: str, move: Mapping[str, Any]) -> str:
    """Say plainly whether the optimum stayed (within a factor of 2 in the rate), and what keeping the rate costs."""
    name = "with muP" if arm == "mup" else "without"
    stays = "stays put" if abs(move["octaves"]) <= 1 else "moves"
    kept = "diverges" if move["regret"] is None else f"loses {move['regret']:.3f} nats per token"
    edge = " (an optimum lies at the edge of the rates: widen them)" if move["edge"] else ""
    return (
        f"{name}: over {move['times_wider']:g} times the width the best rate {stays} (times "
        f"{2 ** move['octaves']:.2g}){edge}; the largest width at the smallest one's best rate {kept}"
    )


def as_csv(results: Mapping[str, Any]) -> str:
    """Return one line for each run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("arm", "width", "rate", "loss"))
    for curve in results["curves"]:
        for rate, loss in zip(results["rates"], curve["losses"], strict=True):
            writer.writerow((curve["arm"], curve["width"], rate, "" if loss is None else loss))
    return text.getvalue()


def as_markdown(results: Mapping[str, Any]) -> str:
    """Return the table that people read."""
    heads = [f"{rate:.2g}" for rate in results["rates"]]
    lines = ["| arm | width | " + " | ".join(heads) + " | best rate |", "|---" * (len(heads) + 3) + "|"]
    for curve in results["curves"]:
        cells = ["diverged" if loss is None else f"{loss:.3f}" for loss in curve["losses"]]
        best = "none" if curve["best_rate"] is None else f"{curve['best_rate']:.2g}"
        best += " (edge)" if curve["edge"] else ""
        lines.append(f"| {curve['arm']} | {curve['width']} | " + " | ".join(cells) + f" | {best} |")
    facts = f"{results['optimizer']}, {results['steps']} steps, {results['trained_tokens']:,} tokens a run"
    return "\n".join([*lines, "", f"Validation loss, nats per token; {facts}.", "", *results["verdicts"], ""])


def _loss(recipe: PretrainConfig, tokens: Path, folder: Path) -> float | None:
    """Return the validation loss after a run, which is found finished if it is; None if it diverged."""
    stage = Stage("width", "model", PretrainConfig, pretrain, {"tokens": "tokens"})
    try:
        trained = run_stage(stage, recipe, {"tokens": tokens}, folder, log=Log(None, quiet=True))
    except (Interrupted, UsageError):
        raise
    except HanokError:
        return None
    loss = float(trained.metrics["val/loss"])
    return loss if math.isfinite(loss) else None


WIDTHS_STAGE = Stage("widths", "comparison", WidthsConfig, compare_widths, {"tokens": "tokens"})
