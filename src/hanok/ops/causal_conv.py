"""A short causal convolution over time, each channel on its own.

Shapes: B batch, T tokens, D channels, K taps; the K - 1 inputs before the first token are carried along.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hanok.ops.numerics import current


def causal_conv(x_BTD: Tensor, past_BPD: Tensor, weight_D1K: Tensor, bias_D: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return y_t = bias + sum_k weight_k x_(t-K+1+k) as (B,T,D), and the last K - 1 inputs (B,K-1,D).

    The weight lies as `torch.nn.functional.conv1d` wants it. Products and sums are taken tap by tap, so that cutting
    a sequence into chunks changes no bit in exact numerics.
    """
    inputs = torch.cat((past_BPD, x_BTD), 1)
    out: Tensor = _Conv.apply(inputs, weight_D1K, bias_D)
    return out, inputs[:, x_BTD.shape[1] :]


def causal_conv_reference(x_BTD: Tensor, past_BPD: Tensor, weight_D1K: Tensor, bias_D: Tensor | None) -> Tensor:
    """Return the same by the library's convolution."""
    inputs = torch.cat((past_BPD, x_BTD), 1).transpose(1, 2)
    return F.conv1d(inputs, weight_D1K, bias_D, groups=inputs.shape[1]).transpose(1, 2)


class _Conv(torch.autograd.Function):
    """K shifted products in place: the library's depthwise kernel takes about twice as long on a CPU."""

    @staticmethod
    def forward(ctx: Any, inputs_BSD: Tensor, weight_D1K: Tensor, bias_D: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs_BSD, weight_D1K)
        ctx.biased = bias_D is not None
        taps = weight_D1K[:, 0].t().contiguous()
        length = inputs_BSD.shape[1] - taps.shape[0] + 1
        y = inputs_BSD[:, :length] * taps[0]
        for k in range(1, taps.shape[0]):
            part = inputs_BSD[:, k : k + length]
            # A fused product and sum may round once or twice, by where an element lies in its vector.
            y = y.addcmul_(part, taps[k]) if current() == "fast" else y.add_(part * taps[k])
        return y if bias_D is None else y.add_(bias_D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        dy, reach = grads[0], weight.shape[-1]
        length = dy.shape[1]
        dx, dw = torch.zeros_like(inputs), torch.empty_like(weight)
        for k in range(reach):
            dx[:, k : k + length].addcmul_(dy, weight[:, 0, k])
            dw[:, 0, k] = (dy * inputs[:, k : k + length]).sum((0, 1))
        return dx, dw, dy.sum((0, 1)) if ctx.biased else None
