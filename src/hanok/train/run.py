"""From a configuration to a finished run: build the parts, resume, train, with the usual hooks."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from hanok.core.claim import Claim
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.rng import Streams
from hanok.core.stage import CHECKPOINTS
from hanok.model.model import Model
from hanok.model.size import count_model
from hanok.ops.peak import matmul_peak
from hanok.train.checkpoint.folder import claimed
from hanok.train.compile import compiled
from hanok.train.config import TrainingConfig
from hanok.train.ema import EMA
from hanok.train.float8 import KEPT, Float8Layers
from hanok.train.hook import Hook, Record
from hanok.train.hook.balance import Balance
from hanok.train.hook.checkpoint import Checkpoint
from hanok.train.hook.memory import Memory
from hanok.train.hook.metrics import Metrics, Names
from hanok.train.hook.progress import Progress
from hanok.train.hook.spike import Spike
from hanok.train.hook.tracking import Tracking
from hanok.train.hook.utilisation import Utilisation
from hanok.train.hook.validate import Measure, Validate
from hanok.train.loop import SHORT, LoopConfig, computing, train, update
from hanok.train.objective.policy import Objective
from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.base import Growths, Optimizer
from hanok.train.schedule import SCHEDULES
from hanok.train.state import Source, TrainState, resume

if TYPE_CHECKING:
    from hanok.train.parallel.team import Team

TRIAL_STEPS = 8
TRIAL_SECONDS = 3.0


class Runner:
    """One run of a configuration in a directory; `run` trains what is left of it and returns the last figures.

    `hooks` come first among the hooks, so that they may add to a step's figures before those are written.
    """

    def __init__(self, config: TrainingConfig, out: Path, log: Log, *, title: str, names: Names = "trl") -> None:
        self.config, self.out, self.log, self.title, self.names = config, out, log, title, names

    def run(
        self,
        model: Model,
        source: Source,
        objective: Objective,
        *,
        measure: Measure | None = None,
        hooks: Sequence[Hook] = (),
        show: Sequence[str] = (),
        growth: Growths | None = None,
    ) -> Record:
        """Train `model` in place; `growth` says by name how its parameters differ from those the rates are for."""
        with claimed(self.out / CHECKPOINTS) as claim:
            return self._run(model, source, objective, claim, measure, hooks, show, growth)

    def _run(
        self,
        model: Model,
        source: Source,
        objective: Objective,
        claim: Claim,
        measure: Measure | None,
        hooks: Sequence[Hook],
        show: Sequence[str],
        growth: Growths | None,
    ) -> Record:
        config, log, whole = self.config, self.log.at(self.out), model
        team = self._team(model)
        if team is not None:
            model, source, measure = team.model, team.slice(source), measure and team.measuring(measure)
            log = log if team.first else Log(None, quiet=True)
        tracking = Tracking(config.track, log, config.to_dict())
        optimizer = self._optimizer(model, growth)
        state = TrainState(
            model, optimizer, source, config.steps or 0, rng=Streams(config.seed), fingerprint=config.digest()
        )
        if team is not None:
            state.ranks, state.forward = team.ranks, team.policy
        if config.loop.compile == "model":
            state.forward = compiled(model)
        average = None if config.ema is None else EMA(config.ema, model)
        if average is not None:
            state.extra["ema"] = average
            measure = measure and average.measuring(measure)
        layers = self._float8(state)
        found = resume(state, self.out / CHECKPOINTS, log.info)
        if found is not None:
            log.info(f"{self.title}: going on from {found.name} of {state.steps}")
        elif config.minutes is not None:
            state.steps = self._affordable(state, objective, 60 * config.minutes, growth)
        validate = [] if measure is None else [Validate(measure, log, every=config.validate_every)]
        checkpoint = self._checkpoint(claim, log)
        usual = [
            *([] if average is None else [average]),
            *layers,
            Spike(self.out / "refused", objective, config.loop, say=log.info),
            *self._utilisation(whole),
            Balance(),
            Memory(),
            tracking,
            Metrics(log, names=self.names),
            Progress(log, self.title, show=show),
            *validate,
            checkpoint,
        ]
        schedule = SCHEDULES[config.schedule.kind](config.schedule)
        with tracking, contextlib.nullcontext() if team is None else team.watched(state):
            record = train(state, objective, schedule, config.loop, [*hooks, *usual])
        if average is not None:
            average.settle()
        if team is not None:
            team.gather()
        measured = validate[0].last if validate else {}
        return {**record, **measured, "steps": state.step, "failed_saves": checkpoint.failures}

    def _float8(self, state: TrainState) -> list[Hook]:
        """Return the hook of layers that multiply in 8 bits, if any do, and let checkpoints hold what they know."""
        if self.config.loop.compute != "float8":
            return []
        layers = Float8Layers(state.model, self.config.loop.float8)
        state.extra[KEPT] = layers
        return [layers]

    def _checkpoint(self, claim: Claim, log: Log) -> Checkpoint:
        return Checkpoint(
            self.out / CHECKPOINTS,
            every=self.config.save_every,
            seconds=self.config.save_seconds,
            keep=self.config.keep,
            claim=claim,
            say=log.info,
        )

    def _team(self, model: Model) -> Team | None:
        """Return this process's part of the model where several processes train it."""
        if self.config.parallel.size == 1:
            return None
        if self.config.steps is None:
            raise UsageError("parallel: several processes need a number of steps, not of minutes")
        from hanok.train.parallel.team import divide  # what it imports takes a second

        return divide(model, self.config.parallel, self.config.loop, device=model.device.type)

    def _utilisation(self, model: Model) -> list[Hook]:
        """Return the hook that says how busy the device is; where steps do other work too, it would mislead."""
        if self.names != "pretrain":
            return []
        peak = _peak(self.config.loop.compute, model.device.type) * self.config.parallel.size
        return [Utilisation(count_model(model).training_flops_per_token(self.config.length), peak)]

    def _optimizer(self, model: nn.Module, growth: Growths | None) -> Optimizer:
        optimizer: Optimizer = OPTIMIZERS[self.config.optimizer.kind](self.config.optimizer, model, growth)
        return optimizer

    def _affordable(
        self, state: TrainState, objective: Objective, seconds: float, growth: Growths | None = None
    ) -> int:
        """Return how many steps fit, from a few trial steps that leave no trace."""
        before = state.source.state()
        model = copy.deepcopy(state.model)
        trial = copy.copy(state)
        trial.model, trial.optimizer = model, self._optimizer(model, growth)
        trial.forward = compiled(model) if isinstance(model, Model) and state.forward is not None else None
        trial.extra = {}
        times: list[float] = []
        with computing(self.config.loop, trial):
            update(trial, objective, self.config.loop, 0.0)  # whatever is made once, compiled code above all
            started = time.perf_counter()
            while len(times) < TRIAL_STEPS and time.perf_counter() - started < TRIAL_SECONDS:
                begun = time.perf_counter()
                update(trial, objective, self.config.loop, 0.0)
                times.append(time.perf_counter() - begun)
        state.source.restore(before)
        usual = sorted(times)[len(times) // 2]
        steps = max(1, int(seconds / usual))
        self.log.info(f"{self.title}: {usual * 1000:.0f} ms a step, so {steps} steps in {seconds / 60:.2g} min")
        return steps


@cache
def _peak(compute: Literal["float32", "mixed", "bfloat16", "float8"], device: str) -> float:
    """Return the FLOP/s of products in a format, measured once for all runs of a process (a ladder has many)."""
    with computing(LoopConfig(compute=compute)):
        return matmul_peak(torch.bfloat16 if compute in SHORT else torch.float32, device)
