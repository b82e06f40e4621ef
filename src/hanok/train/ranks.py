"""The processes that take a step together, as the loop sees them: figures are summed, gradients measured, over all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hanok.text.batch import Batch

Forward = Callable[[Any, Batch], tuple[Tensor, dict[str, Tensor]]]  # (policy, batch) -> loss, metrics
Count = Callable[[Batch], Tensor]  # how many units the loss of a batch is a mean over


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

    def backward(
        self, forward: Forward, count: Count, policy: Any, batch: Batch, share: Tensor, *, last: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradient of share * loss to the parameters' own; return the loss and the metrics, detached.

        `count` weighs the parts of a batch that is computed piece by piece.
        After the `last` micro-batch of a step, gradients are the sums over the ranks that read different data.
        """
        ...

    def norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return the norm of the whole gradient, wherever its parts lie."""
        ...

    def clip(self, parameters: Sequence[nn.Parameter], limit: float, norm: Tensor) -> None:
        """Scale the gradient, whose norm is given, to at most `limit`."""
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

    def backward(
        self, forward: Forward, count: Count, policy: Any, batch: Batch, share: Tensor, *, last: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Call the objective and let autograd do the rest."""
        loss, metrics = forward(policy, batch)
        (loss * share).backward()
        return loss.detach(), metrics

    def norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return the norm of the gradient of these parameters."""
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        return torch.nn.utils.get_total_norm(grads)

    def clip(self, parameters: Sequence[nn.Parameter], limit: float, norm: Tensor) -> None:
        """Scale the gradient of these parameters."""
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)


ALONE = Alone()
