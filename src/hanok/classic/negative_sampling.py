"""Negative sampling: tell the words that stand together from words drawn at random, by hand rather than by autograd."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def loss(v: Tensor, u: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return -sum positive ln s(v u) - sum negative ln s(-v u), where s is the logistic function.

    v (..., n, d) are inputs, u (..., m, d) outputs; positive and negative (..., n, m) say how often each pair counts.
    For one pair and k drawn words this is the loss of Mikolov et al. 2013, arXiv 1310.4546, equation 4.
    """
    scores = v @ u.mT
    return (positive * F.softplus(-scores)).sum() + (negative * F.softplus(scores)).sum()


def gradients(v: Tensor, u: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of `loss` with respect to v and u: with g = (positive + negative) s(v u) - positive, they
    are g u and g' v."""
    g = torch.sigmoid(v @ u.mT).mul_(positive + negative).sub_(positive)
    return g @ u, g.mT @ v
