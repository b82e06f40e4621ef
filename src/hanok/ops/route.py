"""Routing of tokens to experts: groups of rows, one call per group, and the losses that keep the groups even.

B sequences of T tokens, N = B T; E experts, of which a token visits k; D features; A assignments (token, expert).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Groups:
    """Assignments sorted by expert: row a is assignment `slots[a]`, and the rows of expert e are `counts[e]`.

    Assignment s is the choice s % k of token s // k; `places` (N, k) is the row of each, one past the last if dropped.
    """

    slots: Tensor
    places: Tensor
    counts: list[int]


def group(experts_Nk: Tensor, number: int, kept_Nk: Tensor | None = None) -> Groups:
    """Sort the assignments by expert, each expert's tokens in their order; those not kept are left out."""
    chosen = experts_Nk if kept_Nk is None else torch.where(kept_Nk, experts_Nk, number)
    flat = chosen.flatten()
    order = torch.argsort(flat, stable=True)
    counts: list[int] = torch.bincount(flat, minlength=number)[:number].tolist()
    rows = sum(counts)
    places = torch.empty_like(order)
    places[order] = torch.arange(flat.numel(), device=flat.device).clamp(max=rows)
    return Groups(order[:rows], places.view(experts_Nk.shape), counts)


def dispatch(x_ND: Tensor, groups: Groups) -> Tensor:
    """Return the rows (A, D) that the experts read, expert after expert."""
    rows: Tensor = _Dispatch.apply(x_ND, groups)
    return rows


def grouped(x_AD: Tensor, counts: Sequence[int], networks: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """Return what each network makes of its own `counts` rows of x, in turn.

    One call per network, from its first product to its last: a group's intermediate results stay in the cache.
    """
    outputs = [network(rows) for network, rows in zip(networks, x_AD.split(list(counts)), strict=True)]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def combine(y_AD: Tensor, groups: Groups, weights_Nk: Tensor) -> Tensor:
    """Return sum_j weights[n, j] * y[places[n, j]] as (N, D); what was dropped adds nothing.

    The k terms are added in the order of the token's own choices, at least in float32, so that its bits do not depend
    on its neighbours.
    """
    out: Tensor = _Combine.apply(y_AD, weights_Nk, groups)
    return out


class _Dispatch(torch.autograd.Function):
    """Rows gathered by token; the gradient gathers too, where the library would scatter row by row."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, groups: Groups) -> Tensor:
        ctx.groups = groups
        return x_ND.index_select(0, _tokens(groups))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _sum(grads[0], ctx.groups, None), None


class _Combine(torch.autograd.Function):
    """Weighted sums of gathered rows; each row's gradient is its token's, times its weight."""

    @staticmethod
    def forward(ctx: Any, y_AD: Tensor, weights_Nk: Tensor, groups: Groups) -> Tensor:
        ctx.groups = groups
        ctx.save_for_backward(y_AD, weights_Nk)
        return _sum(y_AD, groups, weights_Nk)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        y_AD, weights_Nk = ctx.saved_tensors
        slots = ctx.groups.slots
        rows = grads[0].index_select(0, _tokens(ctx.groups))
        grad_w = weights_Nk.new_zeros(weights_Nk.numel())
        grad_w[slots] = (rows * y_AD).sum(-1).to(grad_w.dtype)
        grad_y = rows * weights_Nk.flatten().index_select(0, slots)[:, None]
        return grad_y.to(y_AD.dtype), grad_w.view(weights_Nk.shape), None


def _tokens(groups: Groups) -> Tensor:
    return groups.slots // groups.places.shape[1]


def _sum(rows_AD: Tensor, groups: Groups, weights_Nk: Tensor | None) -> Tensor:
    """Return for each token the sum of its rows, weighted or not."""
    dtype = rows_AD.dtype
    if groups.places.numel() > len(groups.slots):
        rows_AD = torch.cat([rows_AD, rows_AD.new_zeros(1, rows_AD.shape[1])])
    total: Tensor | None = None
    for j, places in enumerate(groups.places.unbind(1)):
        term = rows_AD.index_select(0, places)
        term = term.float() if weights_Nk is None and term.dtype.itemsize < 4 else term
        term = term if weights_Nk is None else term * weights_Nk[:, j, None]
        total = term if total is None else total + term
    assert total is not None
    return total.to(dtype)


def best_groups(scores: Tensor, groups: int, keep: int, best: int) -> Tensor:
    """Return which experts (..., E) belong to the `keep` groups whose `best` highest scores have the greatest sum.

    Group-limited routing (DeepSeek-V2, arXiv 2405.04434, section 2.2.2: best = 1; V3, arXiv 2412.19437: best = 2).
    """
    parted = scores.unflatten(-1, (groups, -1))
    worth = parted.amax(-1) if best == 1 else parted.topk(best, -1).values.sum(-1)
    chosen = torch.zeros_like(worth, dtype=torch.bool).scatter(-1, worth.topk(keep, -1).indices, True)
    return chosen.unsqueeze(-1).expand(parted.shape).flatten(-2)


def within_capacity(experts_BTk: Tensor, number: int, capacity: int) -> Tensor:
    """Return which assignments come among the first `capacity` of their expert in their sequence, as (B, T, k) bool."""
    flat = experts_BTk.flatten(1)
    hits = torch.nn.functional.one_hot(flat, number)
    rank = (hits.cumsum(1) * hits).sum(-1)
    return (rank <= capacity).view(experts_BTk.shape)


def load(experts: Tensor, number: int) -> Tensor:
    """Return how many assignments each expert got (E,)."""
    return torch.bincount(experts.flatten(), minlength=number)


def balance_loss(probs: Tensor, experts: Tensor) -> Tensor:
    """Return E * sum_e f_e P_e over the T tokens of probs (..., T, E) and experts (..., T, k), mean over the rest.

    f_e: assignments to e per token, P_e: mean probability of e. Even loads give k: 1 for Switch (Fedus et al. 2021,
    arXiv 2101.03961, eq. 4), top_k for Mixtral; no tokens at all give 0. The gradient flows through P alone.
    """
    number = probs.shape[-1]
    hits = torch.nn.functional.one_hot(experts, number).sum(-2).to(probs.dtype)
    tokens = max(probs.shape[-2], 1)  # a mixture of depths may let no token pass: no load, and not 0 / 0
    return number * (hits.sum(-2) / tokens * (probs.sum(-2) / tokens)).sum(-1).mean()


def sequence_balance_loss(scores_BTE: Tensor, experts_BTk: Tensor) -> Tensor:
    """Return DeepSeek-V3's sequence-wise loss sum_e f_e P_e, 1 for even loads (arXiv 2412.19437, eq. 17 to 20).

    f_e = E / (k T) * assignments to e within a sequence, P_e: mean over it of the scores divided by their sum.
    """
    shares = scores_BTE / scores_BTE.sum(-1, keepdim=True)
    return balance_loss(shares, experts_BTk) / experts_BTk.shape[-1]


def z_loss(logits: Tensor) -> Tensor:
    """Return the mean over tokens of logsumexp(logits)^2 (Zoph et al. 2022, ST-MoE, arXiv 2202.08906, eq. 5).

    Without a token it is 0.
    """
    squares = torch.logsumexp(logits, -1).square()
    return squares.sum() / max(squares.numel(), 1)


def bias_step(bias: Tensor, loads: Tensor, rate: float) -> Tensor:
    """Return bias + rate * sign(mean load - load): the busy are chosen less (Wang et al. 2024, arXiv 2408.15664)."""
    loads = loads.to(torch.float64)
    return bias + rate * torch.sign(loads.mean() - loads).to(bias.dtype)
