"""Small runs to save and to compare, for the tests of checkpoints and for the processes that these kill."""

from __future__ import annotations

from typing import Any

import torch

from hanok.core.rng import Streams
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.train.optim.adamw import AdamW
from hanok.train.state import TrainState

VOCAB = 32


class Rows:
    """Random rows of tokens, by number."""

    def __init__(self) -> None:
        self.drawn = 0

    def next_batch(self) -> Batch:
        generator = torch.Generator().manual_seed(self.drawn)
        self.drawn += 1
        tokens = torch.randint(0, VOCAB, (4, 9), generator=generator)
        return Batch(tokens[:, :-1], tokens[:, 1:], torch.ones(4, 8), torch.arange(8).expand(4, -1))

    def state(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def restore(self, state: dict[str, Any]) -> None:
        self.drawn = state["drawn"]


def small(step: int = 0, *, seed: int = 0, steps: int = 100, vocab: int = VOCAB, dim: int = 8) -> TrainState:
    """Return a run of a tiny model, moved on by `step` made-up steps so that the optimiser has a state."""
    dials = {"dim": dim, "depth": 1, "heads": 2, "kv_heads": 1, "context": 64}
    model = Model(ModelConfig.preset("llama-tiny", vocab=vocab, **dials), seed=seed)
    state = TrainState(model, AdamW(AdamW.Config(lr=0.01), model), Rows(), steps, rng=Streams(seed))
    for _ in range(step):
        advance(state)
    return state


def advance(state: TrainState) -> None:
    """Take a step along a gradient that depends on the step's number only."""
    generator = torch.Generator().manual_seed(state.step)
    for parameter in state.optimizer.parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    state.optimizer.step(1.0)
    state.source.next_batch()
    state.step += 1


def snapshot(state: TrainState) -> dict[str, Any]:
    """Return all that a checkpoint must bring back, as copies."""
    tensors, data = state.optimizer.state()
    return {
        "weights": {name: tensor.clone() for name, tensor in state.model.state_dict().items()},
        "optimizer": {name: tensor.clone() for name, tensor in tensors.items()},
        "data": data,
        "source": state.source.state(),
        "rng": state.rng.state(),
        "counters": [state.step, state.steps, state.num_tokens, state.seconds, state.skipped, list(state.norms)],
        "extra": {name: kept.state() for name, kept in state.extra.items()},
    }


def same(a: Any, b: Any) -> bool:
    """Return whether two snapshots are equal to the last bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)
