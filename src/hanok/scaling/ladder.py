"""A ladder of tiny runs: fit a law to them, predict a larger run before it is trained, then train it and compare."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import Field

from hanok.core.artifact import Artifact, atomic_write
from hanok.core.config import Config
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.stage import Stage, run_stage
from hanok.model.model import Model
from hanok.model.size import count
from hanok.model.weights import load_model
from hanok.scaling.fit import DELTA
from hanok.text.data.shard import Shards
from hanok.text.tokenizer import Tokenizer
from hanok.train.data import shards_of, validation
from hanok.train.schedule.linear import Linear
from hanok.train.stages import PretrainConfig, pretrain

TRIAL_STEPS = 10
SHRINK = 16  # steps never become fewer than this part of what was asked for
FIT_SECONDS = 4.0


class Rung(Config):
    """One run: the dials of the recipe's preset, and how many steps."""

    dials: dict[str, int]
    steps: int = Field(ge=1)


class LadderConfig(Config):
    """Which runs to make and how to judge them.

    Every size is trained for every number of `steps` by the `recipe`, its rate falling to zero in each, because a run
    cut off early is not a finished small run. Rungs need to be past the first steep drop, which follows no power law;
    small batches get there on few tokens, and widths grow while the depth stays, because a tiny model's step costs its
    number of operations. With `seconds`, all steps are scaled alike so that the whole fits.
    """

    recipe: PretrainConfig = PretrainConfig(steps=1, batch=4, length=64, schedule=Linear.Config(final=0.0))
    sizes: tuple[dict[str, int], ...] = (
        {"dim": 32, "depth": 2},
        {"dim": 64, "depth": 2},
        {"dim": 112, "depth": 2},
    )
    steps: tuple[int, ...] = (160, 320, 640)
    held_out: Rung = Rung(dials={"dim": 176, "depth": 2}, steps=640)
    seconds: float | None = Field(None, gt=0)
    law: str = "chinchilla"
    delta: float = Field(DELTA, gt=0)
    level: float = Field(0.9, gt=0, lt=1)
    samples: int = Field(300, ge=20)
    validation_tokens: int = Field(8192, ge=1)
    seed: int = 0

    def rungs(self) -> list[Rung]:
        """Return the runs to fit, from small to large."""
        return [Rung(dials=dials, steps=steps) for dials in self.sizes for steps in self.steps]


class Plan(Config):
    """The runs as they will be made: fixed before the first one, so that a resumed ladder is the same ladder."""

    rungs: tuple[Rung, ...]
    held_out: Rung
    scale: float
    estimated_seconds: float | None


@dataclass(frozen=True)
class Cost:
    """Seconds of one size: for each step, for each run whatever its length, and spent on finding that out."""

    step: float
    fixed: float
    spent: float


class Climber:
    """Trains rungs, each a stage of its own below `folder`, so that a killed ladder goes on where it was."""

    def __init__(self, config: LadderConfig, tokens: Path, folder: Path, log: Log) -> None:
        self.config, self.tokens, self.folder, self.log = config, tokens, folder, log
        self.vocab = Tokenizer.load(tokens).vocab_size
        self._quiet = Log(None, quiet=True)

    def recipe(self, rung: Rung) -> PretrainConfig:
        """Return the recipe of one rung."""
        return self.config.recipe.model_copy(
            update={"dials": rung.dials, "steps": rung.steps, "minutes": None, "seed": self.config.seed}
        )

    def params(self, rung: Rung) -> int:
        """Return N: the weights in matrix products, head included, which is what a token's compute goes through."""
        return count(self.recipe(rung).architecture(self.vocab)).params_matrix

    def trained_tokens(self, rung: Rung) -> int:
        """Return D: tokens seen in training, repeats counted."""
        recipe = self.recipe(rung)
        return rung.steps * recipe.batch * recipe.length * recipe.loop.accumulate

    def loss(self, rung: Rung, *, trial: bool = False) -> float:
        """Train one rung, or find it finished, and return its loss on the fixed validation tokens."""
        model = self._train(rung, trial=trial)
        valid = shards_of(self.tokens, "valid")
        if valid is None:
            raise UsageError(
                f"{self.tokens} holds no validation shards (valid/index.json), which a ladder is judged by"
            )
        measure = validation(
            valid,
            length=self.config.recipe.length,
            batch=self.config.recipe.batch,
            max_tokens=self.config.validation_tokens,
        )
        figures = measure(load_model(model))
        return figures["val/loss"]

    def cost(self, rung: Rung) -> Cost:
        """Return what a run of this size takes, from a short trial; the fixed part is loading, measuring and saving."""
        trial, started = Rung(dials=rung.dials, steps=TRIAL_STEPS), time.perf_counter()
        self.loss(trial, trial=True)
        whole = time.perf_counter() - started
        speed = float(Artifact.load(self._train(trial, trial=True), verify=False).metrics["tokens_per_second"])
        step = self.trained_tokens(trial) / TRIAL_STEPS / speed
        return Cost(step, max(0.0, whole - TRIAL_STEPS * step), whole)

    def _train(self, rung: Rung, *, trial: bool = False) -> Path:
        stage = Stage("rung", "model", PretrainConfig, partial(pretrain, measure=_later), {"tokens": "tokens"})
        folder = self.folder / "trials" if trial else self.folder
        return run_stage(stage, self.recipe(rung), {"tokens": self.tokens}, folder, log=self._quiet).path


def make_plan(config: LadderConfig, out: Path, cost: Callable[[Rung], Cost]) -> Plan:
    """Return the plan that `out` holds, or make one: all steps scaled alike, so that the ladder fits `seconds`."""
    file = out / "plan.json"
    if file.is_file():
        return Plan.parse(json.loads(file.read_text(encoding="utf-8")), where=str(file))
    rungs = [*config.rungs(), config.held_out]
    scale, estimate = 1.0, None
    if config.seconds is not None:
        costs = {_key(rung): cost(rung) for rung in _one_per_size(rungs)}
        fixed = FIT_SECONDS + sum(c.spent for c in costs.values()) + sum(costs[_key(rung)].fixed for rung in rungs)
        steps = sum(costs[_key(rung)].step * rung.steps for rung in rungs)
        scale = max(0.0, config.seconds - fixed) / steps
        rungs = [_scaled(rung, scale) for rung in rungs]
        estimate = round(fixed + sum(costs[_key(rung)].step * rung.steps for rung in rungs), 1)
    plan = Plan(rungs=tuple(rungs[:-1]), held_out=rungs[-1], scale=scale, estimated_seconds=estimate)
    atomic_write(file, json.dumps(plan.to_dict(), indent=2) + "\n")
    return plan


def tokens_available(tokens: Path) -> int:
    """Return how many training tokens there are before they repeat."""
    train = shards_of(tokens, "train")
    assert train is not None
    return len(Shards(train, verify=False))


def _scaled(rung: Rung, scale: float) -> Rung:
    """Return a rung with more or fewer steps; numbers of steps that differed still do."""
    return Rung(dials=rung.dials, steps=max(math.ceil(rung.steps / SHRINK), round(rung.steps * scale)))


def _one_per_size(rungs: Sequence[Rung]) -> list[Rung]:
    return list({_key(rung): rung for rung in rungs}.values())


def _key(rung: Rung) -> str:
    return json.dumps(rung.dials, sort_keys=True)


def _later(_: Model) -> dict[str, float]:
    """Measure nothing while a rung trains; its loss is taken once, at the end."""
    return {}
