"""The memory that training a model takes, found by rehearsing two steps of the very code that will run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hanok.core.errors import UsageError
from hanok.core.rng import Streams
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.train.config import TrainingConfig
from hanok.train.loop import SHORT, computing
from hanok.train.objective.clm import NextToken
from hanok.train.objective.policy import Objective
from hanok.train.optim import OPTIMIZERS
from hanok.train.plan.live import rehearsal
from hanok.train.state import TrainState


@dataclass(frozen=True)
class Need:
    """Bytes that tensors hold: at the peak of a step, and of that what stays between steps.

    `peak` is what the allocator is asked for (on CUDA `max_memory_allocated`). A process holds more: Python and its
    libraries, and on CPUs what the C library's allocator keeps in fragments (docs/lab/006).
    """

    weights: int
    optimizer: int
    peak: int

    @property
    def passing(self) -> int:
        """Return what only the peak of a step holds: gradients, activations, and what is made on the way."""
        return self.peak - self.weights - self.optimizer


class Nothing:
    """A source of data for a rehearsal: every batch has the shape of the real ones."""

    def __init__(self, batch: int, length: int) -> None:
        self.shape = (batch, length)

    def next_batch(self) -> Batch:
        tokens, targets, positions = (torch.zeros(self.shape, dtype=torch.int64) for _ in range(3))
        return Batch(tokens, targets, torch.ones(self.shape), positions)

    def state(self) -> dict[str, object]:
        return {}

    def restore(self, state: dict[str, object]) -> None:
        pass


def need(model: ModelConfig, config: TrainingConfig, objective: Objective | None = None) -> Need:
    """Return the memory that one process needs to train a model as a configuration says.

    The second step is the dearer one: only then the optimiser's moments exist while gradients are made.
    """
    if config.loop.compile != "none":
        raise UsageError("the memory of compiled code is the compiler's affair: plan with loop.compile=none")
    with rehearsal(config.length) as live:
        built = Model(model)
        weights = live.now
        optimizer = OPTIMIZERS[config.optimizer.kind](config.optimizer, built)
        state = TrainState(built, optimizer, Nothing(config.batch, config.length), 2, rng=Streams(0))
        with computing(config.loop, state):
            for _ in range(2):
                rehearse(state, objective or NextToken(NextToken.Config()), config)
    return Need(weights, live.now - weights, live.peak)


def rehearse(state: TrainState, objective: Objective, config: TrainingConfig) -> None:
    """Take a step without asking what came out of it."""
    batches = [state.source.next_batch() for _ in range(config.loop.accumulate)]
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.loop.compute in SHORT):
            loss, _ = objective(state.policy, batch)
        loss.backward()
    state.optimizer.step(1.0)
    for parameter in state.optimizer.parameters:
        parameter.grad = None
