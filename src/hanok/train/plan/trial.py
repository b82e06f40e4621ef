"""A few real steps, timed: what this machine does is measured, never assumed."""

from __future__ import annotations

import statistics
import time

from hanok.core.device import pick
from hanok.core.rng import Streams
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.train.compile import compiled
from hanok.train.config import TrainingConfig
from hanok.train.loop import WARMUP_STEPS, computing, update
from hanok.train.optim import OPTIMIZERS
from hanok.train.plan.example import Copies, example, objective_of, packs
from hanok.train.state import TrainState

STEPS, SECONDS = 8, 20.0


def seconds_per_step(model: ModelConfig, config: TrainingConfig) -> float:
    """Return the usual time of a step on this machine, first steps left out, from at most about 20 seconds of them."""
    built, objective = Model(model).to(pick(config.device)), objective_of(config)
    batch = example(config, model.vocab, objective, packed=packs(config, built))
    optimizer = OPTIMIZERS[config.optimizer.kind](config.optimizer, built)
    state = TrainState(built, optimizer, Copies(batch), STEPS, rng=Streams(0))
    state.forward = None if config.loop.compile == "none" else compiled(built)
    times: list[float] = []
    with computing(config.loop, state):
        while len(times) < WARMUP_STEPS + STEPS and (len(times) < 2 or sum(times) < SECONDS):
            started = time.perf_counter()
            update(state, objective, config.loop, 0.0)
            times.append(time.perf_counter() - started)
    return statistics.median(times[min(WARMUP_STEPS, len(times) - 1) :])
