"""The memory that training a model takes, found by rehearsing two steps of the very code that will run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.core.rng import Streams
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.linear import Linear
from hanok.ops.linear_cross_entropy import Projection
from hanok.text.batch import Batch
from hanok.train.config import TrainingConfig
from hanok.train.ema import EMA
from hanok.train.loop import SHORT, computing
from hanok.train.objective.base import TokenMean
from hanok.train.optim import OPTIMIZERS
from hanok.train.plan.example import Copies, example, objective_of, packs
from hanok.train.plan.live import rehearsal
from hanok.train.state import TrainState


@dataclass(frozen=True)
class Need:
    """Bytes that tensors hold: at the peak of a step, and of that what stays between steps.

    `average` is what a run with `ema` keeps beside the weights. `peak` is what the allocator is asked for (on CUDA
    `max_memory_allocated`). A process holds more: Python and its libraries, and on CPUs what the C library's allocator
    keeps in fragments (docs/lab/006).
    """

    weights: int
    optimizer: int
    average: int
    peak: int

    @property
    def passing(self) -> int:
        """Return what only the peak of a step holds: gradients, activations, and what is made on the way."""
        return self.peak - self.weights - self.optimizer - self.average


class Rehearsed(Model):
    """A model on tensors that hold nothing: these are of a type of their own, and yet the head is a plain matrix."""

    def before_head(self, hidden: Tensor) -> tuple[Tensor, Projection] | None:
        """Return what the model would return with memory."""
        head, config = self.head, self.config.head
        if head is None or config is None or type(head) is not Linear or "product" in vars(head):
            return None
        x = hidden if self.transform is None else self.transform(hidden)
        return x, Projection(head.weight, head.bias, config.scale, config.softcap)


def need(model: ModelConfig, config: TrainingConfig) -> Need:
    """Return the memory that one process needs to train a model as a configuration says, by its own objective."""
    if config.loop.compile != "none":
        raise UsageError("the memory of compiled code is the compiler's affair: plan with loop.compile=none")
    objective = objective_of(config)
    shape = Model(model, device="meta")
    objective.fits(shape)
    batch = example(config, model.vocab, objective, packed=packs(config, shape))
    with rehearsal(config.length, batch.num_targets) as live:
        built = Rehearsed(model)
        weights = live.now
        average = None if config.ema is None else EMA(config.ema, built)
        kept = live.now - weights
        state = take(built, config, objective, batch, average)
        moments = live.now - weights - kept
    assert state.model is built  # alive until all was counted
    return Need(weights, moments, kept, live.peak)


def take(
    model: Model, config: TrainingConfig, objective: TokenMean, batch: Batch, average: EMA | None = None
) -> TrainState:
    """Take two steps without asking what came out of them, and return what stays between steps.

    The second is the dearer one: only then the optimiser's moments exist while gradients are made.
    """
    optimizer = OPTIMIZERS[config.optimizer.kind](config.optimizer, model)
    state = TrainState(model, optimizer, Copies(batch), 2, rng=Streams(0))
    with computing(config.loop, state):
        for _ in range(2):
            rehearse(state, objective, config)
            if average is not None:
                average.after_step(state, {})
    return state


def rehearse(state: TrainState, objective: TokenMean, config: TrainingConfig) -> None:
    """Take a step."""
    batches = [state.source.next_batch() for _ in range(config.loop.accumulate)]
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.loop.compute in SHORT):
            loss, _ = objective(state.policy, batch)
        loss.backward()
    state.optimizer.step(1.0)
    for parameter in state.optimizer.parameters:
        parameter.grad = None
