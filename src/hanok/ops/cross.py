"""Attention from one sequence over another, in exact numerics."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.ops.attention import BLOCK, Substitute, exact_attention, scored_attention, tile_tokens


def exact_cross_attention(
    q_BTHD: Tensor, k_BSGD: Tensor, v_BSGE: Tensor, where: tuple[Tensor, Tensor], scale: float
) -> Tensor:
    """Return attention (B,T,H,E) whose bits do not depend on which other queries there are.

    `where` holds which keys are seen (B,S) and the queries' positions (B,T), consecutive in each row; a query sits in
    its tile at position % tile, as in `exact_attention`. The gradient is fast attention's.
    """
    seen, positions = where
    rows = [
        _one(q_BTHD[b], k_BSGD[b][seen[b]], v_BSGE[b][seen[b]], int(positions[b, 0]), scale)
        for b in range(q_BTHD.shape[0])
    ]
    out = torch.stack(rows)
    if not torch.is_grad_enabled():
        return out
    see = seen[:, None].expand(-1, q_BTHD.shape[1], -1)
    fast = scored_attention((q_BTHD, k_BSGD, v_BSGE), torch.zeros_like(see, dtype=torch.int64), see, scale)
    kept: Tensor = Substitute.apply(fast, out.detach())
    return kept


def _one(q_THD: Tensor, k_SGD: Tensor, v_SGE: Tensor, first: int, scale: float) -> Tensor:
    length, heads, _ = q_THD.shape
    s, g = k_SGD.shape[:2]
    tokens = tile_tokens(heads // g)
    before = first % tokens
    tiles = -(-(before + length) // tokens)
    blocks = -(-s // BLOCK)
    q = F.pad(q_THD, (0, 0, 0, 0, before, tiles * tokens - before - length)).unflatten(0, (tiles, tokens))
    q = q.unflatten(2, (g, -1)).permute(2, 0, 1, 3, 4).reshape(g * tiles, -1, q_THD.shape[-1])
    k, v = (F.pad(x, (0, 0, 0, 0, 0, blocks * BLOCK - s)).transpose(0, 1) for x in (k_SGD, v_SGE))
    k, v = (x.unflatten(1, (blocks, BLOCK))[:, None].expand(-1, tiles, -1, -1, -1).flatten(0, 1) for x in (k, v))
    see = (torch.arange(blocks * BLOCK, device=q.device) < s).expand(g * tiles, q.shape[1], -1)
    y = exact_attention(q, k, v, see, scale).unflatten(0, (g, tiles)).unflatten(2, (tokens, -1))
    return y.permute(1, 2, 0, 3, 4).reshape(tiles * tokens, heads, -1)[before : before + length]
