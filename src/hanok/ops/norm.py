"""Normalisation of rows."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.ops.gradient import with_gradient
from hanok.ops.native.rows import exact_rows_ready, native_rms_norm, rows_ready
from hanok.ops.numerics import current


def rms_norm(x: Tensor, weight: Tensor | None, eps: float, offset: float = 0.0) -> Tensor:
    """Return x / sqrt(mean(x^2) + eps) * (offset + weight) over the last dimension, the mean in at least float32.

    Zhang and Sennrich 2019, arXiv 1910.07467, equation 4. Gains stored as their distance from `offset` are added up
    and multiplied in float32, before the result is rounded; others are multiplied after it.
    """
    if current() == "fast" and x.dtype in (torch.float32, torch.float64):
        if not torch.is_grad_enabled() and (library := rows_ready(x, weight)) is not None:
            return native_rms_norm(library, x, weight, eps, offset)
        gain = offset + weight if offset and weight is not None else weight
        return F.rms_norm(x, (x.shape[-1],), gain, eps)
    if current() == "exact" and (library := exact_rows_ready(x, weight)) is not None:
        kernel = partial(native_rms_norm, library, eps=eps, offset=offset)
        return with_gradient(kernel, partial(rms_norm_reference, eps=eps, offset=offset), x, weight)
    return rms_norm_reference(x, weight, eps, offset)


def rms_norm_reference(x: Tensor, weight: Tensor | None, eps: float, offset: float = 0.0) -> Tensor:
    """Spell the formula out; each row is reduced on its own, so its bits do not depend on its batch."""
    wide = _wide(x)
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    if weight is None:
        return normed.to(x.dtype)
    if offset:
        return (normed * (offset + weight.to(wide.dtype))).to(x.dtype)
    return weight * normed.to(x.dtype)


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Return (x - mean(x)) / sqrt(var(x) + eps) * weight + bias over the last dimension, in at least float32 inside.

    Ba et al. 2016, arXiv 1607.06450, equation 4, without a learned part where there is none.
    """
    if current() == "fast":
        return F.layer_norm(x, (x.shape[-1],), weight, bias, eps)
    return layer_norm_reference(x, weight, bias, eps)


def layer_norm_reference(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Spell the formula out; each row is reduced on its own, so its bits do not depend on its batch."""
    wide = _wide(x)
    centred = wide - wide.mean(-1, keepdim=True)
    normed = centred * torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + eps)
    if weight is not None:
        normed = normed * weight.to(wide.dtype)
    if bias is not None:
        normed = normed + bias.to(wide.dtype)
    return normed.to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    return (x if x.dtype == torch.float64 else x.float()).contiguous()
