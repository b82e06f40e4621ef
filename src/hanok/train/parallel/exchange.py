"""Collectives that gradients flow through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def exchange(x: Tensor, sent: Sequence[int], received: Sequence[int], group: Any) -> Tensor:
    """Send `sent[r]` of the rows x (A, D) to rank r, which lie rank after rank; return the rows from every rank."""
    rows: Tensor = _Exchange.apply(x, tuple(sent), tuple(received), group)
    return rows


def enter(x: Tensor, group: Any) -> Tensor:
    """Return x, which all ranks of the group hold alike and each uses in part: its gradient is summed over them."""
    same: Tensor = _Enter.apply(x, group)
    return same


def leave(x: Tensor, group: Any) -> Tensor:
    """Return the sum over the ranks of a group, which each of them goes on with alike."""
    total: Tensor = _Leave.apply(x, group)
    return total


def gather(x: Tensor, group: Any) -> Tensor:
    """Return (B, n T, ...) of parts x (B, T, ...) on n ranks, in their order; gradients go back where they belong."""
    whole: Tensor = _Gather.apply(x, group)
    return whole


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sent: tuple[int, ...], received: tuple[int, ...], group: Any) -> Tensor:
        ctx.sent, ctx.received, ctx.group = sent, received, group
        return _all_to_all(x, sent, received, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return _all_to_all(grads[0], ctx.received, ctx.sent, ctx.group), None, None, None


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _sum(grads[0], ctx.group), None


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        return _sum(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group, ctx.length = group, x.shape[1]
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(group.size())]
        dist.all_gather(parts, x.contiguous(), group=group)
        return torch.cat(parts, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        # Summed whole and then cut: gloo has no reduce-scatter of tensors whose first dimension is not divided.
        total = _sum(grads[0], ctx.group)
        return total.narrow(1, ctx.group.rank() * ctx.length, ctx.length), None


def _all_to_all(x: Tensor, sent: tuple[int, ...], received: tuple[int, ...], group: Any) -> Tensor:
    out = x.new_empty(sum(received), *x.shape[1:])
    dist.all_to_all_single(out, x.contiguous(), list(received), list(sent), group=group)
    return out


def _sum(x: Tensor, group: Any) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total
