"""The gated delta rule: a state that forgets, and that overwrites what it holds under a key.

Shapes: B batch, T tokens in C blocks of L, H heads, K numbers of a key, V of a value. A state is (B,H,K,V).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hanok.ops.dual import dual
from hanok.ops.numerics import elementwise
from hanok.ops.selective_scan import fold
from hanok.ops.ssd import BLOCK, in_blocks, segment_sums


def gated_delta_rule(
    q_BTHK: Tensor, k_BTHK: Tensor, v_BTHV: Tensor, log_decay_BTH: Tensor, beta_BTH: Tensor, s_BHKV: Tensor
) -> tuple[Tensor, Tensor]:
    """Return o (B,T,H,V) with o_t = S_t^T q_t, and the last S.

    S_t = a_t (I - beta_t k_t k_t^T) S_(t-1) + beta_t k_t v_t^T with a = exp(log_decay); Yang et al. 2024, arXiv
    2412.06464, equation 10. In blocks by the WY form of its section 3.3; token by token in exact numerics.
    """
    o, s = dual(_blocks, delta_rule_reference, q_BTHK, k_BTHK, v_BTHV, log_decay_BTH, beta_BTH, s_BHKV)
    return o, s


def delta_rule_reference(
    q_BTHK: Tensor, k_BTHK: Tensor, v_BTHV: Tensor, log_decay_BTH: Tensor, beta_BTH: Tensor, s_BHKV: Tensor
) -> tuple[Tensor, Tensor]:
    """Spell the rule out, one token after the other: fade, read under the key, write the difference."""
    kept = elementwise(torch.exp, log_decay_BTH)
    s, out = s_BHKV, []
    for t in range(q_BTHK.shape[1]):
        q, k = q_BTHK[:, t, :, :, None], k_BTHK[:, t, :, :, None]
        s = s * kept[:, t, :, None, None]
        missing = (v_BTHV[:, t] - fold(s * k)) * beta_BTH[:, t, :, None]
        s = s + k * missing[:, :, None]
        out.append(fold(s * q))
    return torch.stack(out, 1), s


def _blocks(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, s: Tensor) -> tuple[Tensor, ...]:
    length = q.shape[1]
    size = min(BLOCK, length)
    # A token of filling has log_decay = 0 and beta = 0: it neither fades nor writes.
    q, k, v = (in_blocks(t, size).transpose(2, 3) for t in (q, k, v))  # BCHL.
    log_decay, beta = (in_blocks(t, size).transpose(2, 3) for t in (log_decay, beta))  # BCHL
    decay = segment_sums(log_decay).exp()
    faded = log_decay.cumsum(-1).exp().unsqueeze(-1)  # of the state before the block
    k_beta = k * beta.unsqueeze(-1)
    # What token l writes depends on what tokens s < l of its block wrote: a triangular system, one for all columns.
    overlap = (k_beta @ k.transpose(-1, -2) * decay).tril(-1)
    sides = torch.cat((v * beta.unsqueeze(-1), k_beta * faded), -1)
    written, erased = torch.linalg.solve_triangular(overlap, sides, upper=False, unitriangular=True).split(
        (v.shape[-1], k.shape[-1]), -1
    )
    score = q @ k.transpose(-1, -2) * decay
    query, key = q * faded, (k * decay[..., -1, :, None]).transpose(-1, -2)
    last = faded[..., -1:, :]
    out = []
    for i in range(q.shape[1]):
        value = written[:, i] - erased[:, i] @ s
        out.append(query[:, i] @ s + score[:, i] @ value)
        s = s * last[:, i] + key[:, i] @ value
    return torch.stack(out, 1).transpose(2, 3).flatten(1, 2)[:, :length], s
