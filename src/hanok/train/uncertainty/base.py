"""What a measure of uncertainty is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Uncertainty(Protocol):
    """One number for each token, high where the model is unsure; `needs_targets` where it asks for the answer."""

    needs_targets: bool

    def __call__(self, logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        """Return the uncertainty (N,) of each prediction."""
        ...
