"""Matrix products of rows with a weight: the library's kernel, or in exact mode our own, or fixed row tiles."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.ops.native.product import exact_ready, product, ready
from hanok.ops.numerics import current

MANY = 128  # rows from which on the library's kernel is as fast as ours
TILE = 32  # rows per product in exact mode: one decode step of 32 sequences fills it
NARROW = 16  # outputs below which kernels for odd shapes take over, whose bits depend on where their operands lie
ALIGNED = 64  # bytes: what an allocation gives, and a view or a mapped file may not


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias for x (..., K), weight (N, K), bias (N,).

    In exact mode a row of the result depends on that row of `x` alone, to the last bit: training and the engine
    compute by the same kernels, or both in tiles, as `exact_kernels` found at the first product of the process.
    """
    if current() == "fast":
        if not torch.is_grad_enabled() and x.numel() <= MANY * x.shape[-1] and x.dtype == weight.dtype:
            library = ready(x)
            if library is not None:
                return product(library, x, weight, bias)
        return F.linear(x, weight, bias)
    library = exact_ready(x, weight)
    if library is not None and not torch.is_grad_enabled():
        return product(library, x, weight, bias)
    rows: Tensor = _Exact.apply(x.reshape(-1, x.shape[-1]), weight, library)
    y = rows.view(*x.shape[:-1], weight.shape[0])
    return y if bias is None else y + bias


class _Exact(torch.autograd.Function):
    """x @ weight.T row by row; the gradient, of which no such promise is made, takes whole products."""

    @staticmethod
    def forward(ctx: Any, x_NK: Tensor, weight_MK: Tensor, library: Any) -> Tensor:
        ctx.save_for_backward(x_NK, weight_MK)
        return _in_tiles(x_NK, weight_MK) if library is None else product(library, x_NK, weight_MK)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_NK, weight_MK = ctx.saved_tensors
        grad_NM = grads[0]
        grad_x = grad_NM @ weight_MK if ctx.needs_input_grad[0] else None
        grad_w = grad_NM.t() @ x_NK if ctx.needs_input_grad[1] else None
        return grad_x, grad_w, None


def _in_tiles(x_NK: Tensor, weight_MK: Tensor) -> Tensor:
    """Return x @ weight.T in products of TILE rows: the library's kernel for one shape has one order of additions."""
    n, outputs = x_NK.shape[0], weight_MK.shape[0]
    if x_NK.dtype == torch.float64 and x_NK.shape[1] % 2:  # every second row would lie off the vectors' grid
        x_NK, weight_MK = F.pad(x_NK, (0, 1)), F.pad(weight_MK, (0, 1))
    whole = -(-n // TILE) * TILE
    if n != whole or not _placed(x_NK):
        padded = x_NK.new_zeros(whole, x_NK.shape[1])
        padded[:n] = x_NK
    else:
        padded = x_NK
    if outputs < NARROW:
        weight_MK = F.pad(weight_MK, (0, 0, 0, NARROW - outputs))
    elif not _placed(weight_MK):
        weight_MK = weight_MK.clone(memory_format=torch.contiguous_format)
    weight_KM = weight_MK.t()
    out = x_NK.new_empty(whole, weight_MK.shape[0])
    for tile, part in zip(padded.split(TILE), out.split(TILE), strict=True):
        torch.mm(tile, weight_KM, out=part)
    return out[:n, :outputs]


def _placed(x: Tensor) -> bool:
    """Say whether a tensor lies in one piece, from an address that kernels take as aligned."""
    return x.is_contiguous() and x.data_ptr() % ALIGNED == 0
