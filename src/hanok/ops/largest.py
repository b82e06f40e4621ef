"""The largest number of each row and its place, as every step of decoding asks for them."""

from __future__ import annotations

from torch import Tensor

from hanok.ops.native.rows import native_largest, rows_ready


def largest(x_NV: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's largest number (N,), which is NaN where one of them is, and its first place (N,)."""
    library = rows_ready(x_NV)
    if library is not None:
        return native_largest(library, x_NV)
    tops, places = x_NV.max(-1)
    return tops, places
