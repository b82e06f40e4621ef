"""Everything a run needs to go on as if it had never stopped; `hanok.train.checkpoint` writes it to a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from hanok.core.rng import Streams
from hanok.text.batch import Batch
from hanok.train.checkpoint.folder import checkpoints, sweep
from hanok.train.checkpoint.load import load_weights, resume
from hanok.train.checkpoint.save import save_checkpoint
from hanok.train.optim.base import Optimizer
from hanok.train.ranks import ALONE, Ranks

__all__ = ["Kept", "Source", "TrainState", "checkpoints", "load_weights", "resume", "save_checkpoint", "sweep"]


class Source(Protocol):
    """Where batches come from: a stream of data, or a producer that looks at the policy."""

    def next_batch(self) -> Batch:
        """Return the next batch and move on."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the exact position as JSON-able data."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a position."""
        ...


class Kept(Protocol):
    """A companion of the run that checkpoints hold too, such as an average of the weights."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state as tensors by name and JSON-able data."""
        ...

    def restore(self, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        """Go back to a saved state, to the last bit."""
        ...


@dataclass
class TrainState:
    """A run between two steps; accumulation never spans a checkpoint, so that it needs no state of its own.

    `fingerprint` names the configuration; a checkpoint of another one is refused. `forward` is what objectives call
    where that is not the model itself (a compiled form of it, on the same weights); `extra` are companions by name.
    """

    model: nn.Module
    optimizer: Optimizer
    source: Source
    steps: int
    rng: Streams = field(default_factory=lambda: Streams(0))
    fingerprint: str = ""
    step: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_row: int = 0
    norms: list[float] = field(default_factory=list)
    ranks: Ranks = ALONE
    forward: Any = None
    extra: dict[str, Kept] = field(default_factory=dict)

    @property
    def policy(self) -> Any:
        """Return what objectives call."""
        return self.model if self.forward is None else self.forward
