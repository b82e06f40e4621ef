"""Data parallelism: every rank holds the whole model; gradients are summed while the backward still runs."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hanok.model.model import Model
from hanok.ops.linear_cross_entropy import Projection


class Replicas:
    """A policy whose hidden states come through `DistributedDataParallel`, which then sums gradients in buckets.

    Li et al. 2020, arXiv 2006.15704. Its own mean over ranks is replaced by a sum: the loop weighs the losses.
    """

    def __init__(self, model: Model, group: Any) -> None:
        self.model = model
        self.wrapper = DistributedDataParallel(_Hidden(model), process_group=group, init_sync=False)
        # Its check of annotations cannot read ours, which are strings.
        self.wrapper.register_comm_hook(group, lambda group, bucket: summed(bucket, group))
        self._settle()

    def hidden(self, tokens: Tensor, ctx: Any = None) -> Tensor:
        """Return the states (B, T, D) before the head."""
        out: Tensor = self.wrapper(tokens, ctx)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of each state."""
        return self.model.logits(hidden)

    def before_head(self, hidden: Tensor) -> tuple[Tensor, Projection] | None:
        """Return the head, and what it multiplies; None where it is no plain matrix."""
        return self.model.before_head(hidden)

    def _settle(self) -> None:
        """Let the wrapper find the order of its buckets now, by a pass that leaves no trace.

        It sorts gradients into buckets anew after its first backward. Where a number lies in its bucket says in which
        order a ring adds it up, which from three ranks on shows in the last bit: a run that goes on from a checkpoint
        would have other sums than one that never stopped.
        """
        device = next(self.model.parameters()).device
        hidden = self.hidden(torch.zeros(1, 1, dtype=torch.int64, device=device))
        (0.0 * self.logits(hidden).sum()).backward()
        for parameter in self.model.parameters():
            parameter.grad = None


class _Hidden(nn.Module):
    """The forward that the wrapper sees; gradients of the head, which is used later, reach its buckets all the same."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, ctx: Any) -> Tensor:
        return self.model.hidden(tokens, ctx)


def summed(bucket: Any, group: Any) -> torch.futures.Future[Tensor]:
    """Sum a bucket of gradients over the ranks."""
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    assert work is not None
    done: torch.futures.Future[Tensor] = work.get_future().then(lambda future: future.value()[0])
    return done


def replicable(model: Model) -> bool:
    """Return whether every parameter takes part in every step, which the wrapper counts on."""
    return model.mtp is None and model.pooler is None and model.encoder is None
