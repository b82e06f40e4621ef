"""Products of rows with a weight by the kernels, whichever of the four formats it lies in.

A row of `product` depends on that row and the weight alone, bit by bit: neither on the rows beside it nor on the
number of threads (source/products.h says why). So one function serves training's forward and the engine's steps.
`quick_product` is the same to rounding and takes another kernel where there are many rows (source/panels.h).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hanok.ops.native import kernels

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 3}
ROWS = (torch.float32, torch.bfloat16)
PLAIN = (Tensor, nn.Parameter)
FEW = 8  # rows up to which reading the weight is what takes the time, and each output's own sum the quickest


def ready(x: Tensor) -> Any:
    """Return the library if it is there and takes rows like these, else None."""
    if x.device.type != "cpu" or x.dtype not in ROWS or torch.compiler.is_compiling() or type(x) not in PLAIN:
        return None
    return kernels()


def product(
    library: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, scale: Tensor | None = None, outputs: int = 0
) -> Tensor:
    """Return x W^T + b (..., outputs) in the rows' dtype, for x (..., K).

    The weight's dtype says what it is: float32 or bfloat16 (N, K); int8 (N, K) with a float32 scale (N,) per output;
    uint8, which is int4 as `nn.linear.Int4Linear` lays it out.
    """
    return _computed(library.hanok_product, x, weight, bias, scale, outputs or weight.shape[0])


def quick_product(
    library: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, scale: Tensor | None = None, outputs: int = 0
) -> Tensor:
    """Return what `product` does, to rounding, by whichever kernel is the quickest for so many rows."""
    few = x.numel() <= FEW * x.shape[-1] or weight.dtype == torch.uint8
    call = library.hanok_product if few else library.hanok_panels
    return _computed(call, x, weight, bias, scale, outputs or weight.shape[0])


def _computed(
    call: Any, x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None, outputs: int
) -> Tensor:
    x = x.contiguous()
    weight = weight.contiguous()
    inputs = x.shape[-1]
    out = torch.empty(*x.shape[:-1], outputs, dtype=x.dtype)
    rows = x.numel() // inputs if inputs else 0
    if bias is not None:
        bias = bias.to(x.dtype).contiguous()
    call(
        weight.data_ptr(),
        None if scale is None else scale.data_ptr(),
        None if bias is None else bias.data_ptr(),
        outputs,
        inputs,
        KINDS[weight.dtype],
        x.dtype == torch.bfloat16,
        x.data_ptr(),
        rows,
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out


class Packed(torch.autograd.Function):
    """x W^T for a packed W that is not learned: the kernel's value, and the gradient with respect to x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, multiply: Any, packed: tuple[Tensor, Tensor | None, int], unpacked: Any) -> Tensor:
        ctx.unpacked = unpacked
        weight, scale, outputs = packed
        y: Tensor = multiply(x, weight, None, scale, outputs)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return grads[0] @ ctx.unpacked().to(grads[0].dtype), None, None, None
