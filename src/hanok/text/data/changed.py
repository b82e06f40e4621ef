"""A stream whose batches are changed as they are read (hidden, cut, split), by random numbers that go with the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from hanok.core.errors import UsageError
from hanok.core.rng import derive
from hanok.text.batch import Batch
from hanok.text.data.stream import Stream

Draws = Sequence[np.random.Generator]


class Change(Protocol):
    """Makes a batch of another, with one random generator for each row."""

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the changed batch."""
        ...


class Changed:
    """The batches of a stream, changed.

    What is drawn for a row depends on the seed, the number of the batch and the row's own tokens: not on its place in
    the batch, nor on which process reads it. The position is a number beside the stream's own.
    """

    def __init__(self, stream: Stream, change: Change, *, seed: int = 0) -> None:
        self.stream, self.change, self.seed = stream, change, seed
        self.drawn = 0

    def next_batch(self) -> Batch:
        """Return the next batch of the stream, changed."""
        batch = self.stream.next_batch()
        self.drawn += 1
        return changed(batch, self.change, seed=self.seed, number=self.drawn - 1)

    def state(self) -> dict[str, Any]:
        """Return the stream's position and the number of the next batch."""
        return {"drawn": self.drawn, "seed": self.seed, "stream": self.stream.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a saved position of the same seed."""
        if state.get("seed") != self.seed or "stream" not in state:
            raise UsageError("the saved data position belongs to another seed or another kind of stream")
        self.drawn = int(state["drawn"])
        self.stream.restore(state["stream"])


def changed(batch: Batch, change: Change, *, seed: int, number: int) -> Batch:
    """Return one batch, changed."""
    rows = batch.tokens.numpy()
    keys = [hashlib.sha256(np.ascontiguousarray(row).tobytes()).hexdigest() for row in rows]
    return change(batch, [np.random.Generator(np.random.PCG64(derive(seed, f"change {number} {key}"))) for key in keys])
