"""The weighted sum of RWKV-4: values averaged with weights exp(k), which fade at a rate of each channel's own.

Shape legend: B batch, T tokens, W channels. A state (B,3,W) holds the numerator, the denominator, and the logarithm
of the scale that both are kept in; a denominator of zero means that there is no past.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hanok.ops.numerics import elementwise
from hanok.ops.scan import linear_scan

NOTHING = -1e38  # the logarithm of a weight that counts for nothing, finite so that differences stay numbers


def wkv(k_BTW: Tensor, v_BTW: Tensor, decay_W: Tensor, bonus_W: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return y_t, the mean of the values so far, and the new state.

    Token s < t weighs exp(k_s - (t - 1 - s) decay) and token t itself exp(k_t + bonus), decay > 0 (Peng et al. 2023,
    arXiv 2305.13048, equation 16). The scales are found first, one difference and one maximum per step; with them
    every exponential is taken at once and the sums are a linear scan of one product and one sum per step. Both walk
    token after token, so the same code serves both numerics. Scales cancel in y: no gradient passes through them.
    """
    top, tops = _scales(k_BTW.detach(), decay_W.detach(), state)
    before = torch.cat((top.unsqueeze(1), tops[:, :-1]), 1)
    kept = elementwise(torch.exp, before - decay_W - tops)
    added = elementwise(torch.exp, k_BTW - tops)
    sums = linear_scan(torch.cat((kept, kept), -1), torch.cat((added * v_BTW, added), -1), state[:, :2].flatten(1))
    past = torch.cat((state[:, :2].flatten(1).unsqueeze(1), sums[:, :-1]), 1)
    own = k_BTW + bonus_W
    scale = torch.maximum(before, own.detach())
    old, new = elementwise(torch.exp, before - scale), elementwise(torch.exp, own - scale)
    numerator, denominator = past.chunk(2, -1)
    y = (old * numerator + new * v_BTW) / (old * denominator + new)
    return y, torch.cat((sums[:, -1].unflatten(-1, (2, -1)), tops[:, -1:]), 1)


def _scales(k: Tensor, decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale (B,W) that the chunk starts with, and of each step (B,T,W) the largest weight's logarithm."""
    start = top = torch.where(state[:, 1] == 0, torch.full_like(state[:, 2], NOTHING), state[:, 2]).detach()
    tops = torch.empty_like(k)
    for k_t, out in zip(k.unbind(1), tops.unbind(1), strict=True):
        top = torch.maximum(top - decay, k_t, out=out)
    return start, tops


def wkv_reference(
    k_BTW: Tensor, v_BTW: Tensor, decay_W: Tensor, bonus_W: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Spell the sums out without any scale: right while no exponential leaves the range of the dtype."""
    scale = torch.exp(state[:, 2])
    numerator, denominator = state[:, 0] * scale, state[:, 1] * scale
    ys = []
    for k, v in zip(k_BTW.unbind(1), v_BTW.unbind(1), strict=True):
        own, weight = torch.exp(k + bonus_W), torch.exp(k)
        ys.append((numerator + own * v) / (denominator + own))
        numerator = torch.exp(-decay_W) * numerator + weight * v
        denominator = torch.exp(-decay_W) * denominator + weight
    return torch.stack(ys, 1), torch.stack((numerator, denominator, torch.zeros_like(numerator)), 1)
