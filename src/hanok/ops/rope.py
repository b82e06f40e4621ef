"""Rotary position embedding on the two halves of a head (the layout of LLaMA in Hugging Face files)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rotate(x_BTHD: Tensor, cos_BTd: Tensor, sin_BTd: Tensor) -> Tensor:
    """Rotate each pair (x[i], x[i + d]) by its angle; cos and sin are (B or 1, T, d) with d = D / 2.

    Su et al. 2021, arXiv 2104.09864, section 3.2.2.
    """
    cos, sin = cos_BTd.unsqueeze(-2), sin_BTd.unsqueeze(-2)
    if not (torch.is_grad_enabled() and x_BTHD.requires_grad):
        return _turn(x_BTHD, cos, sin, 1)
    out: Tensor = _Rotate.apply(x_BTHD, cos, sin)
    return out


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    left, right = x.chunk(2, -1)
    if sign > 0:
        return torch.cat((left * cos - right * sin, right * cos + left * sin), -1)
    return torch.cat((left * cos + right * sin, right * cos - left * sin), -1)


class _Rotate(torch.autograd.Function):
    """The rotation, whose gradient is the rotation back: nothing but the angles has to be kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(grads[0], cos, sin, -1), None, None
