"""Rotary position embedding: pairs of features turned by their angles."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Layout = Literal["half", "interleaved"]


def rotate(x_BTHD: Tensor, cos_BTd: Tensor, sin_BTd: Tensor, layout: Layout = "half") -> Tensor:
    """Rotate each pair of features by its angle; cos and sin are (B or 1, T, d) with 2 d <= D.

    Only the first 2 d features turn, the others pass. In the layout `half` (LLaMA in Hugging Face files) the pairs are
    (i, i + d), in `interleaved` (the paper, GPT-J) they are (2 i, 2 i + 1). Su et al. 2021, arXiv 2104.09864, 3.2.2.
    """
    cos, sin = cos_BTd.unsqueeze(-2), sin_BTd.unsqueeze(-2)
    if not (torch.is_grad_enabled() and x_BTHD.requires_grad):
        return _turn(x_BTHD, cos, sin, 1, layout)
    out: Tensor = _Rotate.apply(x_BTHD, cos, sin, layout)
    return out


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: int, layout: Layout) -> Tensor:
    pairs = cos.shape[-1]
    rest = () if 2 * pairs == x.shape[-1] else (x[..., 2 * pairs :],)
    if layout == "half":
        left, right = x[..., :pairs], x[..., pairs : 2 * pairs]
    else:
        left, right = x[..., : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2]
    if sign > 0:
        turned = (left * cos - right * sin, right * cos + left * sin)
    else:
        turned = (left * cos + right * sin, right * cos - left * sin)
    if layout == "half":
        return torch.cat((*turned, *rest), -1)
    woven = torch.stack(turned, -1).flatten(-2)
    return torch.cat((woven, *rest), -1) if rest else woven


class _Rotate(torch.autograd.Function):
    """The rotation, whose gradient is the rotation back: nothing but the angles has to be kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.layout = layout
        return _turn(x, cos, sin, 1, layout)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(grads[0], cos, sin, -1, ctx.layout), None, None, None
