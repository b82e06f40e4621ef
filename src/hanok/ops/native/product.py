"""Products of rows with a weight by the kernels, whichever of the four formats it lies in.

A row of the result depends on that row and the weight alone, bit by bit: neither on the rows beside it nor on the
number of threads (source/products.h says why). So one function serves training's forward and the engine's steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hanok.ops.native import exact_kernels, kernels

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 3}
ROWS = (torch.float32, torch.bfloat16)
PLAIN = (Tensor, nn.Parameter)


def ready(x: Tensor) -> Any:
    """Return the library if it is there and takes rows like these, else None."""
    if x.device.type != "cpu" or x.dtype not in ROWS or torch.compiler.is_compiling() or type(x) not in PLAIN:
        return None
    return kernels()


def exact_ready(x: Tensor, other: Tensor) -> Any:
    """Return the library if exact numerics use it for such rows and weights, or queries and keys, else None."""
    return exact_kernels() if x.dtype == other.dtype and ready(x) is not None else None


def product(
    library: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, scale: Tensor | None = None, outputs: int = 0
) -> Tensor:
    """Return x W^T + b (..., outputs) in the rows' dtype, for x (..., K).

    The weight's dtype says what it is: float32 or bfloat16 (N, K); int8 (N, K) with a float32 scale (N,) per output;
    uint8, which is int4 as `nn.linear.Int4Linear` lays it out.
    """
    x = x.contiguous()
    weight = weight.contiguous()
    outputs = outputs or weight.shape[0]
    inputs = x.shape[-1]
    out = torch.empty(*x.shape[:-1], outputs, dtype=x.dtype)
    rows = x.numel() // inputs if inputs else 0
    if bias is not None:
        bias = bias.to(x.dtype).contiguous()
    library.hanok_product(
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
    def forward(ctx: Any, x: Tensor, library: Any, packed: tuple[Tensor, Tensor | None, int], unpacked: Any) -> Tensor:
        ctx.unpacked = unpacked
        weight, scale, outputs = packed
        return product(library, x, weight, None, scale, outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return grads[0] @ ctx.unpacked().to(grads[0].dtype), None, None, None
