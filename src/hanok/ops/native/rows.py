"""What a layer does to rows between its products, one call each; float32 on the CPU.

Each number depends on its own row alone, in exact numerics as in fast ones.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from hanok.ops.native import exact_kernels, kernels
from hanok.ops.native.product import PLAIN


def rows_ready(x: Tensor, other: Tensor | None = None) -> Any:
    """Return the library if it is there and takes tensors like these, else None."""
    return kernels() if _taken(x, other) else None


def exact_rows_ready(x: Tensor, other: Tensor | None = None) -> Any:
    """Return the library if exact numerics use it for tensors like these, else None."""
    return exact_kernels() if _taken(x, other) else None


def _taken(x: Tensor, other: Tensor | None) -> bool:
    if x.dtype != torch.float32 or x.device.type != "cpu" or type(x) not in PLAIN:
        return False
    return (other is None or other.dtype == torch.float32) and not torch.compiler.is_compiling()


def native_rms_norm(library: Any, x: Tensor, weight: Tensor | None, eps: float, offset: float) -> Tensor:
    """Return `ops.norm.rms_norm`, to rounding."""
    x = x.contiguous()
    out = torch.empty_like(x)
    dim = x.shape[-1]
    gain = None if weight is None else weight.contiguous().data_ptr()
    library.hanok_rms_norm(
        x.data_ptr(), gain, offset, eps, x.numel() // dim, dim, out.data_ptr(), torch.get_num_threads()
    )
    return out


def native_rotate(
    library: Any,
    heads: tuple[Tensor, Tensor],
    table: tuple[Tensor, Tensor],
    positions: Tensor,
    layout: Literal["half", "interleaved"],
) -> tuple[Tensor, Tensor] | None:
    """Return q (1,T,H,D) and k (1,T,G,D) as `ops.rope.rotate` turns them, bit for bit.

    `table` holds cosines and sines (positions, pairs); None if a position of (1,T) lies beyond it.
    """
    q, k = (x.contiguous() for x in heads)
    cos, sin = table
    turned = torch.empty_like(q), torch.empty_like(k)
    beyond = library.hanok_rotate(
        q.data_ptr(),
        k.data_ptr(),
        cos.data_ptr(),
        sin.data_ptr(),
        cos.shape[0],
        positions.contiguous().data_ptr(),
        positions.shape[1],
        q.shape[2],
        k.shape[2],
        q.shape[3],
        cos.shape[1],
        layout == "interleaved",
        turned[0].data_ptr(),
        turned[1].data_ptr(),
        torch.get_num_threads(),
    )
    return None if beyond else turned


def native_swish_gate(library: Any, gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up, to rounding."""
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    library.hanok_swish_gate(gate.data_ptr(), up.data_ptr(), gate.numel(), out.data_ptr(), torch.get_num_threads())
    return out


def native_add(library: Any, a: Tensor, b: Tensor) -> Tensor:
    """Return a + b of one shape, bit for bit."""
    a, b = a.contiguous(), b.contiguous()
    out = torch.empty_like(a)
    library.hanok_add(a.data_ptr(), b.data_ptr(), a.numel(), out.data_ptr(), torch.get_num_threads())
    return out


def native_largest(library: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `ops.largest.largest` of rows (N,V), bit for bit."""
    x = x.contiguous()
    tops, places = torch.empty(x.shape[0]), torch.empty(x.shape[0], dtype=torch.int64)
    library.hanok_largest(
        x.data_ptr(), x.shape[0], x.shape[1], tops.data_ptr(), places.data_ptr(), torch.get_num_threads()
    )
    return tops, places
