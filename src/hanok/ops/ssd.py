"""State space duality: the recurrence of Mamba-2 as products of matrices, block by block.

Shapes: B batch, T tokens in C blocks of L, H heads of P channels in G groups of K heads (a group shares the input and
output vectors), N numbers of state per channel. A state is (B,G,N,R) with R = K P, as in `ops.selective_scan`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.ops.dual import dual
from hanok.ops.selective_scan import selective_scan

BLOCK = 64  # tokens: inside a block every pair is compared, between blocks a state is carried


def ssd(
    x_BTHP: Tensor, dt_BTH: Tensor, A_H: Tensor, b_BTGN: Tensor, c_BTGN: Tensor, h_BGNR: Tensor
) -> tuple[Tensor, Tensor]:
    """Return y (B,T,H,P) with y_t = <c_t, h_t>, h_t = exp(dt_t A) h_(t-1) + dt_t b_t x_t^T, and the last h.

    Dao and Gu 2024, arXiv 2405.21060, section 6: blocks of a semiseparable matrix; token by token in exact numerics.
    """
    y, h = dual(_blocks, ssd_reference, x_BTHP, dt_BTH, A_H, b_BTGN, c_BTGN, h_BGNR)
    return y, h


def ssd_reference(
    x_BTHP: Tensor, dt_BTH: Tensor, A_H: Tensor, b_BTGN: Tensor, c_BTGN: Tensor, h_BGNR: Tensor
) -> tuple[Tensor, Tensor]:
    """Take the recurrent form: a selective scan in which all channels of a head decay alike."""
    width = x_BTHP.shape[3]
    dt_BTD = dt_BTH.repeat_interleave(width, 2)
    A_D1 = A_H.repeat_interleave(width)[:, None]
    y, h = selective_scan(x_BTHP.flatten(2), dt_BTD, A_D1, b_BTGN, c_BTGN, h_BGNR)
    return y.unflatten(2, (-1, width)), h


def segment_sums(log_decay: Tensor) -> Tensor:
    """Return S (...,L,L) with S_ls = sum of log_decay over s < i <= l, and -inf where s > l.

    Each sum is added up on its own: differences of running sums would lose the digits of small decays after a large
    one.
    """
    length = log_decay.shape[-1]
    below = torch.ones(length, length, dtype=torch.bool, device=log_decay.device).tril(-1)
    spread = log_decay.unsqueeze(-1).expand(*log_decay.shape, length)
    sums = spread.masked_fill(~below, 0.0).cumsum(-2)
    return sums.masked_fill(below.t(), float("-inf"))


def in_blocks(x: Tensor, size: int) -> Tensor:
    """Return x (B,T,...) as (B,C,L,...), filled up with zeros."""
    missing = -x.shape[1] % size
    if missing:
        x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, missing))
    blocks: Tensor = x.unflatten(1, (-1, size))
    return blocks


def _blocks(x: Tensor, dt: Tensor, A: Tensor, b: Tensor, c: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    length, groups = x.shape[1], b.shape[2]
    size = min(BLOCK, length)
    # A token of filling has dt = 0: it neither decays nor writes.
    x, dt, b, c = (in_blocks(t, size) for t in (x, dt, b, c))
    x, dt = x.unflatten(3, (groups, -1)), dt.unflatten(3, (groups, -1)).permute(0, 1, 3, 4, 2)  # BCLGKP, BCGKL
    log_decay = dt * A.unflatten(0, (groups, -1)).unsqueeze(-1)
    decay = segment_sums(log_decay).exp()  # from the end of token s to the end of token l
    score = torch.einsum("bclgn,bcsgn->bcgls", c, b).unsqueeze(3) * decay * dt.unsqueeze(-2)
    y = torch.einsum("bcgkls,bcsgkp->bclgkp", score, x)

    left = (decay[..., -1, :] * dt).permute(0, 1, 4, 2, 3).unsqueeze(-1)  # what of token s the block's end still holds
    written = torch.einsum("bcsgn,bcsgkp->bcgnkp", b, x * left)
    kept = log_decay.sum(-1).exp()[:, :, :, None, :, None]
    h = h.unflatten(3, (x.shape[4], -1))
    starts = []
    for kept_c, written_c in zip(kept.unbind(1), written.unbind(1), strict=True):
        starts.append(h)
        h = kept_c * h + written_c
    faded = log_decay.cumsum(-1).exp().permute(0, 1, 4, 2, 3).unsqueeze(-1)
    y = y + torch.einsum("bclgn,bcgnkp->bclgkp", c, torch.stack(starts, 1)) * faded
    return y.flatten(3, 4).flatten(1, 2)[:, :length], h.flatten(3)
