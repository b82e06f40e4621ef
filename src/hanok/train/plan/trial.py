"""A few real steps, timed: what this machine does is measured, never assumed."""

from __future__ import annotations

import statistics
import time

import torch

from hanok.core.device import pick
from hanok.core.rng import Streams
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.train.compile import compiled
from hanok.train.config import TrainingConfig
from hanok.train.loop import WARMUP_STEPS, computing, update
from hanok.train.objective.clm import NextToken
from hanok.train.optim import OPTIMIZERS
from hanok.train.state import TrainState

STEPS, SECONDS = 8, 20.0


class Drawn:
    """Batches of random tokens."""

    def __init__(self, vocab: int, batch: int, length: int) -> None:
        draw = torch.Generator().manual_seed(0)
        rows = torch.randint(0, vocab, (batch, length + 1), generator=draw)
        positions = torch.arange(length).expand(batch, length).contiguous()
        self.batch = Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), torch.ones(batch, length), positions)

    def next_batch(self) -> Batch:
        return self.batch

    def state(self) -> dict[str, object]:
        return {}

    def restore(self, state: dict[str, object]) -> None:
        pass


def seconds_per_step(model: ModelConfig, config: TrainingConfig) -> float:
    """Return the usual time of a step on this machine, first steps left out, from at most about 20 seconds of them."""
    built = Model(model).to(pick(config.device))
    optimizer = OPTIMIZERS[config.optimizer.kind](config.optimizer, built)
    state = TrainState(built, optimizer, Drawn(model.vocab, config.batch, config.length), STEPS, rng=Streams(0))
    state.forward = None if config.loop.compile == "none" else compiled(built)
    times: list[float] = []
    with computing(config.loop, state):
        while len(times) < WARMUP_STEPS + STEPS and (len(times) < 2 or sum(times) < SECONDS):
            started = time.perf_counter()
            update(state, NextToken(NextToken.Config()), config.loop, 0.0)
            times.append(time.perf_counter() - started)
    return statistics.median(times[min(WARMUP_STEPS, len(times) - 1) :])
