"""Normalisation of rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.ops.numerics import current


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return x / sqrt(mean(x^2) + eps) * weight over the last dimension, the mean in at least float32.

    Zhang and Sennrich 2019, arXiv 1910.07467, equation 4.
    """
    if current() == "fast" and x.dtype in (torch.float32, torch.float64):
        return F.rms_norm(x, (x.shape[-1],), weight, eps)
    return rms_norm_reference(x, weight, eps)


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Spell the formula out; each row is reduced on its own, so its bits do not depend on its batch."""
    wide = x if x.dtype == torch.float64 else x.float()
    wide = wide.contiguous()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)
