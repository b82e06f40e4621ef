"""An endless shuffled order over n things, a new permutation in every epoch, whose position is two numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hanok.core.errors import UsageError
from hanok.core.rng import derive


class Order:
    """Yields indices below n for ever; each epoch has every index once."""

    def __init__(self, n: int, *, seed: int, fingerprint: str = "") -> None:
        if n < 1:
            raise UsageError("there is nothing to go through: the data is empty")
        self.n = n
        self.epoch = 0
        self.index = 0
        self._seed = seed
        self._fingerprint = fingerprint
        self._shuffle()

    def __next__(self) -> int:
        if self.index == self.n:
            self.epoch, self.index = self.epoch + 1, 0
            self._shuffle()
        self.index += 1
        return int(self._permutation[self.index - 1])

    def peek(self) -> int:
        """Return what `next` will return."""
        if self.index == self.n:
            self.epoch, self.index = self.epoch + 1, 0
            self._shuffle()
        return int(self._permutation[self.index])

    def state(self) -> dict[str, Any]:
        """Return the position as JSON-able data, with what it belongs to."""
        identity = {"n": self.n, "seed": self._seed, "fingerprint": self._fingerprint}
        return {"epoch": self.epoch, "index": self.index, **identity}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a saved position; one that belongs to other data or another seed is refused."""
        check_identity(state, self.state(), free=("epoch", "index"))
        self.epoch, self.index = int(state["epoch"]), int(state["index"])
        self._shuffle()

    def _shuffle(self) -> None:
        generator = np.random.Generator(np.random.PCG64(derive(self._seed, f"epoch {self.epoch}")))
        self._permutation = generator.permutation(self.n)


def check_identity(state: dict[str, Any], own: dict[str, Any], *, free: Sequence[str]) -> None:
    """Refuse a saved position that lacks a key of `own` or differs in one that is not `free`."""
    for key, value in own.items():
        if key not in state:
            raise UsageError(f"the saved data position lacks {key!r}; it is damaged")
        if key not in free and state[key] != value:
            raise UsageError(f"the saved data position has {key} {state[key]!r}, but this stream has {value!r}")
