"""A mixture of streams: each batch comes from one of them, so that shares are met after any number of batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hanok.core.errors import UsageError
from hanok.text.batch import Batch
from hanok.text.data.shares import Shares
from hanok.text.data.stream import Stream


class Mixture:
    """Takes batches from streams of any kind, each as often as its weight says, within about one batch."""

    def __init__(self, streams: Sequence[Stream], weights: Sequence[float]) -> None:
        if len(streams) != len(weights) or not streams:
            raise UsageError(f"a mixture needs one weight for each stream: {len(weights)} for {len(streams)}")
        self._streams = list(streams)
        self._shares = Shares([(0, weights)])
        self._weights = [float(weight) for weight in weights]
        self.step = 0

    def next_batch(self) -> Batch:
        """Return the next batch of the stream whose turn it is."""
        source, _ = self._shares.at(self.step)
        self.step += 1
        return self._streams[source].next_batch()

    def state(self) -> dict[str, Any]:
        """Return the step and every stream's position."""
        return {"step": self.step, "weights": self._weights, "streams": [stream.state() for stream in self._streams]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a saved position of the same streams and weights."""
        if state.get("weights") != self._weights or len(state.get("streams", [])) != len(self._streams):
            raise UsageError("the saved data position belongs to another mixture")
        self.step = int(state["step"])
        for stream, position in zip(self._streams, state["streams"], strict=True):
            stream.restore(position)
