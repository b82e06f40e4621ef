"""Named random streams: each use draws from its own, so that adding one use never shifts another."""

from __future__ import annotations

import base64
import hashlib
import random
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


class Streams:
    """Random generators by name, all derived from one seed, whose whole state can be saved as JSON."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._torch: dict[str, torch.Generator] = {}
        self._numpy: dict[str, np.random.Generator] = {}
        self._python: dict[str, random.Random] = {}

    def torch(self, name: str) -> torch.Generator:
        """Return the torch generator of a name (CPU)."""
        if name not in self._torch:
            import torch

            self._torch[name] = torch.Generator().manual_seed(derive(self.seed, name))
        return self._torch[name]

    def numpy(self, name: str) -> np.random.Generator:
        """Return the numpy generator of a name."""
        if name not in self._numpy:
            self._numpy[name] = np.random.Generator(np.random.PCG64(derive(self.seed, name)))
        return self._numpy[name]

    def python(self, name: str) -> random.Random:
        """Return the standard library's generator of a name."""
        if name not in self._python:
            self._python[name] = random.Random(derive(self.seed, name))
        return self._python[name]

    def state(self) -> dict[str, Any]:
        """Return everything needed to draw the same numbers again, as JSON-able data."""
        return {
            "seed": self.seed,
            "torch": {k: base64.b64encode(g.get_state().numpy().tobytes()).decode() for k, g in self._torch.items()},
            "numpy": {k: g.bit_generator.state for k, g in self._numpy.items()},
            "python": {k: _jsonable(g.getstate()) for k, g in self._python.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self.seed = state["seed"]
        self._torch, self._numpy, self._python = {}, {}, {}
        for name, text in state["torch"].items():
            import torch

            raw = np.frombuffer(base64.b64decode(text), dtype=np.uint8).copy()
            self.torch(name).set_state(torch.from_numpy(raw))
        for name, value in state["numpy"].items():
            self.numpy(name).bit_generator.state = value
        for name, (version, numbers, gauss) in state["python"].items():
            self.python(name).setstate((version, tuple(numbers), gauss))


def derive(seed: int, name: str) -> int:
    """Return the 63-bit seed of a named stream."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little") >> 1


def _jsonable(state: tuple[Any, ...]) -> list[Any]:
    version, numbers, gauss = state
    return [version, list(numbers), gauss]
