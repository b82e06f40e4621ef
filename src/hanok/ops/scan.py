"""The diagonal linear recurrence h_t = a_t * h_(t-1) + b_t."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def linear_scan(a_BTD: Tensor, b_BTD: Tensor, h_BD: Tensor) -> Tensor:
    """Return all h_t (B,T,D), starting from h (B,D).

    One step after the other with one product and one sum each: cutting a sequence into chunks, or adding rows to the
    batch, changes no bit, so the same code serves both numerics.
    """
    out: Tensor = _Scan.apply(a_BTD, b_BTD, h_BD)
    return out


class _Scan(torch.autograd.Function):
    """Forward in time for the states, backward in time for their gradients: g_t = dy_t + a_(t+1) g_(t+1)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, start: Tensor) -> Tensor:
        states = torch.empty_like(b)
        h = start
        for a_t, b_t, out in zip(a.unbind(1), b.unbind(1), states.unbind(1), strict=True):
            h = torch.add(a_t * h, b_t, out=out)
        ctx.save_for_backward(a, states, start)
        return states

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, states, start = ctx.saved_tensors
        carried = torch.empty_like(states)
        g = torch.zeros_like(start)
        steps = list(zip(a.unbind(1), grads[0].unbind(1), carried.unbind(1), strict=True))
        for a_t, dy_t, out in reversed(steps):
            torch.add(g, dy_t, out=out)
            g = a_t * out
        before = torch.cat((start.unsqueeze(1), states[:, :-1]), 1)
        return carried * before, carried, g
