"""The processes that take a step together, as the loop sees them: figures are summed, gradients measured, over all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn


class Ranks(Protocol):
    """What the loop asks of the other processes; every rank calls each method, in the same order.

    Ranks that read different data add up: the loop weighs each rank's gradient by its share of the whole batch, so
    that a parallel strategy has to sum gradients over them, never to average.
    """

    rank: int
    size: int

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over the ranks that read different data."""
        ...

    def maximum(self, value: Tensor) -> Tensor:
        """Return the largest value on any rank."""
        ...

    def norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return the norm of the whole gradient, wherever its parts lie."""
        ...


class Alone:
    """One process."""

    rank, size = 0, 1

    def sum(self, value: Tensor) -> Tensor:
        """Return the value."""
        return value

    def maximum(self, value: Tensor) -> Tensor:
        """Return the value."""
        return value

    def norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return the norm of the gradient of these parameters."""
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return torch.nn.utils.get_total_norm(grads)


ALONE = Alone()
