"""Sums of two tensors of one shape, as on the residual stream."""

from __future__ import annotations

import torch
from torch import Tensor

from hanok.ops.native.rows import native_add, rows_ready


def add(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y; by the kernels where nothing is learned, so that between them no threads but theirs wake up."""
    library = None if torch.is_grad_enabled() or x.shape != y.shape else rows_ready(x, y)
    return x + y if library is None else native_add(library, x, y)
