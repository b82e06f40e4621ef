"""Attention of a step's tokens by the kernels, over paged keys and values where they lie.

A token's bits depend on its query and on what it sees: neither on the tokens beside it nor on the pages, so one kernel
serves fast and exact numerics, the engine and training's forward.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from hanok.ops.attention import Scoring

_P, _I64, _F32, _I32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int32
Ints = npt.NDArray[np.int64]


class Step(ctypes.Structure):
    """The tokens of a step and where their sequences lie (source/attention.h)."""

    _fields_ = [(name, _P) for name in ("positions", "rows", "table")] + [
        (name, _I64) for name in ("tokens", "width", "page_size")
    ]


class Call(ctypes.Structure):
    """One layer's attention (source/attention.h)."""

    _fields_ = (
        [(name, _P) for name in ("q", "k", "v", "keys", "values", "out", "bias", "sinks")]
        + [(name, _I64) for name in ("key_stride", "value_stride", "heads", "group", "D", "E", "span", "window")]
        + [(name, _F32) for name in ("scale", "softcap")]
        + [(name, _I32) for name in ("brief", "shared")]
    )


@dataclass(slots=True)
class Where:
    """A `Step` with the arrays that it points to."""

    step: Step
    positions: Ints
    rows: Ints
    table: Ints

    def follow(self, positions: Ints, rows: Ints, table: Ints) -> None:
        """Describe another step of as many tokens; what points to this finds it."""
        self.positions[:] = positions
        self.rows[:] = rows
        if table.shape == self.table.shape:
            self.table[:] = table
        else:
            self.table = table.copy()
            self.step.table, self.step.width = self.table.ctypes.data, table.shape[1]


def where(positions: Ints, rows: Ints, table: Ints, page_size: int) -> Where:
    """Describe tokens at positions (T,), of sequences `rows` (T,) whose pages `table` (sequences, width) lists."""
    held = [np.ascontiguousarray(array, dtype=np.int64) for array in (positions, rows, table)]
    pointers = [array.ctypes.data for array in held]
    return Where(Step(*pointers, len(positions), table.shape[1], page_size), *held)


def attend(
    library: Any,
    at: Where,
    qkv: tuple[Tensor, Tensor, Tensor],
    keys: Tensor,
    values: Tensor | None,
    wanted: tuple[Any, ...],
) -> Tensor:
    """Write k (T,G,D) and v (T,G,E) into the pool and return what q (T,H,D) reads there (T,H,E).

    keys (G,N,D) and values (G,N,E) are the pool's, `values` None where a value is the head of its key; `wanted` is
    (scale, window, Scoring), as in `Context.attend`. All are of one dtype, as `product.ready` takes it.
    """
    q, k, v = (x.contiguous() for x in qkv)
    scale, window, how = wanted
    heads = keys.shape[0]
    longest = 0 if how.bias is None else int(at.positions.max()) + 1
    bias, sinks = _scoring(how, longest)
    out = torch.empty(*q.shape[:2], v.shape[-1], dtype=q.dtype)
    call = Call(
        q=q.data_ptr(),
        k=k.data_ptr(),
        v=v.data_ptr(),
        keys=keys.data_ptr(),
        values=keys.data_ptr() if values is None else values.data_ptr(),
        out=out.data_ptr(),
        bias=None if bias is None else bias.data_ptr(),
        sinks=None if sinks is None else sinks.data_ptr(),
        key_stride=keys.stride(0),
        value_stride=keys.stride(0) if values is None else values.stride(0),
        heads=heads,
        group=q.shape[1] // heads,
        D=q.shape[-1],
        E=v.shape[-1],
        span=longest,
        window=window or 0,
        scale=scale,
        softcap=how.softcap or 0.0,
        brief=q.dtype == torch.bfloat16,
        shared=values is None,
    )
    library.hanok_attend(ctypes.byref(at.step), ctypes.byref(call), torch.get_num_threads())
    return out


def attend_whole(library: Any, qkv: tuple[Tensor, Tensor, Tensor], wanted: tuple[Any, ...]) -> Tensor:
    """Return what whole sequences that start at position 0 read of themselves (B,T,H,E), for q (B,T,H,D), k and v."""
    q, k, v = qkv
    batch, length, heads, _ = k.shape
    at = np.arange(batch * length)
    places = where(at % length, at // length, np.arange(batch)[:, None], length)
    pool = [x.new_empty(heads, batch * length, x.shape[-1]) for x in (k, v)]
    y = attend(library, places, (q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)), pool[0], pool[1], wanted)
    return y.view(batch, length, *y.shape[1:])


def _scoring(how: Scoring, longest: int) -> tuple[Tensor | None, Tensor | None]:
    """Return the bias by distance (H, longest) and the sinks (H,) as float32, where there are any."""
    bias = None if how.bias is None else how.bias(torch.arange(longest)).float().contiguous()
    sinks = None if how.sinks is None else how.sinks.detach().float().contiguous()
    return bias, sinks
