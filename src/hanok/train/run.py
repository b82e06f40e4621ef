"""From a configuration to a finished run: build the parts, resume, train, with the usual hooks."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from pathlib import Path

from hanok.core.log import Log
from hanok.core.rng import Streams
from hanok.model.model import Model
from hanok.train.config import TrainingConfig
from hanok.train.hook import Hook, Record
from hanok.train.hook.balance import Balance
from hanok.train.hook.checkpoint import Checkpoint
from hanok.train.hook.metrics import Metrics, Names
from hanok.train.hook.progress import Progress
from hanok.train.hook.validate import Measure, Validate
from hanok.train.loop import computing, train, update
from hanok.train.objective.policy import Objective
from hanok.train.optim import OPTIMIZERS
from hanok.train.schedule import SCHEDULES
from hanok.train.state import Source, TrainState, resume

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
    ) -> Record:
        """Train `model` in place."""
        config, log = self.config, self.log.at(self.out)
        optimizer = OPTIMIZERS[config.optimizer.kind](config.optimizer, model)
        state = TrainState(
            model, optimizer, source, config.steps or 0, rng=Streams(config.seed), fingerprint=config.digest()
        )
        found = resume(state, self.out / "checkpoints", log.info)
        if found is not None:
            log.info(f"{self.title}: going on from {found.name} of {state.steps}")
        elif config.minutes is not None:
            state.steps = self._affordable(state, objective, 60 * config.minutes)
        validate = [] if measure is None else [Validate(measure, log, every=config.validate_every)]
        checkpoint = Checkpoint(
            self.out / "checkpoints",
            every=config.save_every,
            seconds=config.save_seconds,
            keep=config.keep,
            say=log.info,
        )
        usual = [Balance(), Metrics(log, names=self.names), Progress(log, self.title, show=show), *validate, checkpoint]
        schedule = SCHEDULES[config.schedule.kind](config.schedule)
        record = train(state, objective, schedule, config.loop, [*hooks, *usual])
        measured = validate[0].last if validate else {}
        return {**record, **measured, "steps": state.step}

    def _affordable(self, state: TrainState, objective: Objective, seconds: float) -> int:
        """Return how many steps fit, from a few trial steps that leave no trace."""
        before = state.source.state()
        model = copy.deepcopy(state.model)
        trial = copy.copy(state)
        trial.model, trial.optimizer = model, OPTIMIZERS[self.config.optimizer.kind](self.config.optimizer, model)
        times: list[float] = []
        started = time.perf_counter()
        with computing(self.config.loop):
            while len(times) < TRIAL_STEPS and time.perf_counter() - started < TRIAL_SECONDS:
                begun = time.perf_counter()
                update(trial, objective, self.config.loop, 0.0)
                times.append(time.perf_counter() - begun)
        state.source.restore(before)
        usual = sorted(times)[len(times) // 2]
        steps = max(1, int(seconds / usual))
        self.log.info(f"{self.title}: {usual * 1000:.0f} ms a step, so {steps} steps in {seconds / 60:.2g} min")
        return steps
