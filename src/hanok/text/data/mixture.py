"""A mixture of streams: each batch comes from one of them, drawn by weight from the step's own random number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hanok.core.errors import UsageError
from hanok.core.rng import derive
from hanok.text.batch import Batch
from hanok.text.data.stream import Stream


class Mixture:
    """Draws the stream of every batch with probability proportional to its weight."""

    def __init__(self, streams: Sequence[Stream], weights: Sequence[float], *, seed: int = 0) -> None:
        if len(streams) != len(weights) or not streams:
            raise UsageError(f"a mixture needs one weight for each stream: {len(weights)} for {len(streams)}")
        if min(weights) < 0 or sum(weights) <= 0:
            raise UsageError(f"the weights of a mixture must be at least 0 and not all 0: {list(weights)}")
        self._streams = list(streams)
        self._shares = np.asarray(weights, dtype=np.float64) / sum(weights)
        self._seed = seed
        self.step = 0

    def next_batch(self) -> Batch:
        """Return the next batch of the stream that this step draws."""
        # The draw depends on the step alone, so that the position needs no generator state.
        generator = np.random.Generator(np.random.PCG64(derive(self._seed, f"mixture {self.step}")))
        self.step += 1
        return self._streams[int(generator.choice(len(self._streams), p=self._shares))].next_batch()

    def state(self) -> dict[str, Any]:
        """Return the step and every stream's position."""
        return {"step": self.step, "seed": self._seed, "streams": [stream.state() for stream in self._streams]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a saved position of the same streams and seed."""
        if state.get("seed") != self._seed or len(state.get("streams", [])) != len(self._streams):
            raise UsageError("the saved data position belongs to another mixture")
        self.step = int(state["step"])
        for stream, position in zip(self._streams, state["streams"], strict=True):
            stream.restore(position)
