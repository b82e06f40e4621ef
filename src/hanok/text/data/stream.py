"""Streams of training batches from token shards; a saved position gives the very same batches again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from hanok.core.errors import UsageError
from hanok.text.batch import Batch
from hanok.text.data.order import Order
from hanok.text.data.shard import Shards


class Stream(Protocol):
    """Whatever training reads: batches without end, and a position that can be saved as JSON."""

    def next_batch(self) -> Batch:
        """Return the next batch."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the position before the next batch."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a saved position."""
        ...


class TokenStream:
    """Windows of `length` tokens and their targets, in a new random order in every epoch.

    Windows overlap by the one token that ends a window's targets, so that an epoch predicts every token once.
    """

    def __init__(self, shards: Shards | str | Path, *, length: int, batch: int, seed: int = 0) -> None:
        self.shards = shards if isinstance(shards, Shards) else Shards(shards)
        self.length, self.batch = length, batch
        windows = (len(self.shards) - 1) // length
        if windows < 1:
            raise UsageError(f"{self.shards.path} holds {len(self.shards)} tokens, fewer than a window of {length} + 1")
        self._order = Order(windows, seed=seed, fingerprint=f"{self.shards.fingerprint}/{length}/{batch}")

    def next_batch(self) -> Batch:
        """Return the next `batch` windows."""
        starts = [next(self._order) * self.length for _ in range(self.batch)]
        return window_batch(np.stack([self.shards.read(start, start + self.length + 1) for start in starts]))

    def state(self) -> dict[str, Any]:
        """Return the exact position."""
        return self._order.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a saved position of the same data, length, batch and seed."""
        self._order.restore(state)

    @property
    def epochs(self) -> float:
        """Return how often the data was gone through."""
        return self._order.epoch + self._order.index / self._order.n


def evaluation_batches(
    shards: Shards | str | Path, *, length: int, batch: int, max_tokens: int | None = None
) -> Iterator[Batch]:
    """Yield windows in order, each token but the first a target exactly once; the last rows are padded, weight 0."""
    shards = shards if isinstance(shards, Shards) else Shards(shards)
    targets = len(shards) - 1 if max_tokens is None else min(len(shards) - 1, max_tokens)
    for first in range(0, targets, length * batch):
        starts = range(first, min(first + length * batch, targets), length)
        rows = np.zeros((len(starts), length + 1), dtype=np.int64)
        sizes = [min(length, targets - start) for start in starts]
        for row, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            rows[row, : size + 1] = shards.read(start, start + size + 1)
        yield window_batch(rows, torch.arange(length)[None] < torch.tensor(sizes)[:, None])


def window_batch(rows: np.ndarray[Any, Any], seen: torch.Tensor | None = None) -> Batch:
    """Return rows of length + 1 tokens as a batch whose targets are the tokens one further."""
    tokens = torch.from_numpy(np.ascontiguousarray(rows[:, :-1]))
    targets = torch.from_numpy(np.ascontiguousarray(rows[:, 1:]))
    positions = torch.arange(tokens.shape[1]).expand_as(tokens).contiguous()
    weights = torch.ones(tokens.shape) if seen is None else seen.float()
    return Batch(tokens, targets, weights, positions)
