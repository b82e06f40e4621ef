"""An average of the weights over training, which is what a run with one hands on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from hanok.core.config import Config
from hanok.train.hook import Hook, Record
from hanok.train.hook.validate import Measure
from hanok.train.optim.base import take
from hanok.train.state import TrainState


class EMAConfig(Config):
    """The average reaches back about 1 / (1 - decay) steps, fewer at the start (`warmup`), so that it leaves the first
    weights behind: step t keeps min(decay, (1 + t) / (10 + t)).
    """

    decay: float = Field(0.999, gt=0, lt=1)
    warmup: bool = True

    def kept(self, step: int) -> float:
        """Return the share of the average that a step (1, 2, ...) keeps."""
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay


class EMA(Hook):
    """Exponential moving average of the trainable weights: a <- d a + (1 - d) p after each step that was taken.

    A companion of the run that checkpoints hold beside the raw weights, which the run trains on; before the hook that
    saves. (Polyak and Juditsky 1992; the warm-up is TensorFlow's.)
    """

    def __init__(self, config: EMAConfig, model: nn.Module) -> None:
        self.config = config
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._weights.items()}
        self._steps, self._skipped = 0, 0

    def start(self, state: TrainState) -> None:
        """Count refused steps from here."""
        self._skipped = state.skipped

    @torch.no_grad()
    def after_step(self, state: TrainState, record: Record) -> None:
        """Move the average towards the weights; a step that was refused has not moved them."""
        if state.skipped > self._skipped:
            self._skipped = state.skipped
            return
        self._steps += 1
        share = 1 - self.config.kept(self._steps)
        for name, average in self._average.items():
            average.lerp_(self._weights[name].detach(), share)

    @torch.no_grad()
    def settle(self) -> None:
        """Give the model the average for good."""
        for name, weight in self._weights.items():
            weight.copy_(self._average[name])

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Give the model the average for a while, and then its own weights back, to the last bit."""
        raw = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self.settle()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self._weights.items():
                    weight.copy_(raw[name])

    def measuring(self, measure: Measure) -> Measure:
        """Return what measures the average, and the raw weights under the same names with _raw behind."""

        def both(model: Any) -> dict[str, float]:
            raw = {f"{name}_raw": value for name, value in measure(model).items()}
            with self.inside():
                return {**measure(model), **raw}

        return both

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the average and the number of steps in it."""
        return dict(self._average), {"steps": self._steps}

    def restore(self, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self._average = {name: take(tensors, name, like).clone() for name, like in self._average.items()}
        self._steps = int(data["steps"])
