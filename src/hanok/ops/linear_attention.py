"""Attention without a softmax is a recurrence: S_t = decay S_(t-1) + v_t k_t^T, y_t = S_t q_t.

Shape legend: B batch, T tokens, H heads, D and E the sizes of keys and values, N chunks of C tokens each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hanok.ops.dual import dual

CHUNK = 64  # tokens that see each other through a (C,C) table, about the size of a head


def linear_attention(
    q_BTHD: Tensor, k_BTHD: Tensor, v_BTHE: Tensor, state_BHED: Tensor, decay: Sequence[float] | None = None
) -> tuple[Tensor, Tensor]:
    """Return y_t = sum over s <= t of decay^(t-s) (q_t k_s) v_s as (B,T,H,E), plus the past's part, and the new state.

    `decay` is one number in (0, 1] per head, None stands for ones (Katharopoulos et al. 2020, arXiv 2006.16236,
    section 3.3; with decay the retention of Sun et al. 2023, arXiv 2307.08621, section 2).
    """
    ones = (1.0,) * q_BTHD.shape[2]
    kept = torch.tensor(decay or ones, dtype=torch.float64, device=q_BTHD.device)

    def fast(q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        if q.shape[1] == 1:
            return steps(q, k, v, state, kept)
        return chunked(q, k, v, state, kept)

    def exact(q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        return steps(q, k, v, state, kept)

    y, state = dual(fast, exact, q_BTHD, k_BTHD, v_BTHE, state_BHED)
    return y, state


def steps(q_BTHD: Tensor, k_BTHD: Tensor, v_BTHE: Tensor, state: Tensor, decay_H: Tensor) -> tuple[Tensor, Tensor]:
    """Spell the recurrence out; a token's bits depend on what came before it alone."""
    decay = decay_H.to(state.dtype)[:, None, None]
    ys = []
    for q, k, v in zip(q_BTHD.unbind(1), k_BTHD.unbind(1), v_BTHE.unbind(1), strict=True):
        state = decay * state + v.unsqueeze(-1) * k.unsqueeze(-2)
        ys.append((state * q.unsqueeze(-2)).contiguous().sum(-1))  # a sum over neighbours has one order
    return torch.stack(ys, 1), state


def chunked(
    q_BTHD: Tensor, k_BTHD: Tensor, v_BTHE: Tensor, state: Tensor, decay_H: Tensor, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Compute in chunks: tokens of one see each other by products, older ones through the state.

    Every factor is a power of the decay with an exponent of zero or more, so nothing grows, however long the sequence.
    """
    length = q_BTHD.shape[1]
    whole = length - length % chunk
    parts = []
    for start, stop, size in ((0, whole, chunk), (whole, length, length - whole)):
        if stop > start:
            q, k, v = (x[:, start:stop].unflatten(1, (-1, size)).transpose(2, 3) for x in (q_BTHD, k_BTHD, v_BTHE))
            y, state = _chunks(q, k, v, state, decay_H)
            parts.append(y.transpose(2, 3).flatten(1, 2))
    return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)), state


def _chunks(q_BNHCD: Tensor, k_BNHCD: Tensor, v_BNHCE: Tensor, state: Tensor, decay_H: Tensor) -> tuple[Tensor, Tensor]:
    size, dtype = q_BNHCD.shape[3], q_BNHCD.dtype
    at = torch.arange(size, device=q_BNHCD.device)
    distance = at[:, None] - at
    near_HCC = ((decay_H[:, None, None] ** distance.clamp_min(0)) * (distance >= 0)).to(dtype)
    since_HC1 = (decay_H[:, None] ** (at + 1)).to(dtype).unsqueeze(-1)
    until_HC1 = (decay_H[:, None] ** (size - 1 - at)).to(dtype).unsqueeze(-1)
    y = ((q_BNHCD @ k_BNHCD.mT) * near_HCC) @ v_BNHCE
    added_BNHED = v_BNHCE.mT @ (k_BNHCD * until_HC1)
    over = (decay_H**size).to(dtype)[:, None, None]
    before = []
    for added in added_BNHED.unbind(1):
        before.append(state)
        state = over * state + added
    past_BNHED = torch.stack(before, 1)
    return y + (q_BNHCD * since_HC1) @ past_BNHED.mT, state
