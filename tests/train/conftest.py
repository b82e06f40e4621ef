"""Tiny models, batches and sources that the tests of training share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.batch import Batch

VOCAB = 32


@pytest.fixture(autouse=True)
def threads() -> None:
    """One thread: these models are so small that a second one would only wait."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Counting:
    """Rows that count upwards from a random start: a problem that a tiny model learns in a few dozen steps."""

    def __init__(self, batch: int = 4, length: int = 12, seed: int = 0) -> None:
        self.batch, self.length, self.seed, self.drawn = batch, length, seed, 0

    def next_batch(self) -> Batch:
        generator = torch.Generator().manual_seed(1000 * self.seed + self.drawn)
        self.drawn += 1
        start = torch.randint(0, VOCAB, (self.batch, 1), generator=generator)
        rows = (start + torch.arange(self.length + 1)) % VOCAB
        weights = (torch.rand(self.batch, self.length, generator=generator) > 0.3).float()
        positions = torch.arange(self.length).expand(self.batch, -1)
        return Batch(rows[:, :-1], rows[:, 1:], weights, positions)

    def state(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def restore(self, state: dict[str, Any]) -> None:
        self.drawn = state["drawn"]


@pytest.fixture
def counting() -> type[Counting]:
    return Counting


@pytest.fixture
def tiny() -> Callable[..., Model]:
    """Return a builder of models small enough for hundreds of steps a second."""

    def build(kind: str = "llama-tiny", seed: int = 0, **dials: Any) -> Model:
        return Model(
            ModelConfig.preset(kind, **{"vocab": VOCAB, "dim": 16, "depth": 2, "context": 64, **dials}), seed=seed
        )

    return build


@pytest.fixture
def rows() -> Callable[..., Batch]:
    """Return a builder of random batches with weights, some of them zero."""

    def build(batch: int = 4, length: int = 9, seed: int = 0) -> Batch:
        g = torch.Generator().manual_seed(seed)
        x = torch.randint(0, VOCAB, (batch, length + 1), generator=g)
        weights = torch.rand(batch, length, generator=g) * (torch.rand(batch, length, generator=g) > 0.4)
        weights[:, -1] = 1.0
        return Batch(x[:, :-1], x[:, 1:], weights, torch.arange(length).expand(batch, -1))

    return build
