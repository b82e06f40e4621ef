"""Attention from one sequence over another: exact products, and sums weighted by scores that were made elsewhere.

Shapes: B batch, T queries, S tokens of the source, H query heads, G key heads, D and E the sizes of keys and values.
`where` holds which tokens are seen (B,S) and the queries' positions (B,T), consecutive in each row; in exact numerics
a query sits in its tile at position % tile, as in `exact_attention`, and the gradient is the fast form's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.ops.attention import BLOCK, NOTHING, ROWS, Extra, Substitute, exact_attention, scored_attention, tile_tokens
from hanok.ops.numerics import current


def exact_cross_attention(
    q_BTHD: Tensor, k_BSGD: Tensor, v_BSGE: Tensor, where: tuple[Tensor, Tensor], scale: float
) -> Tensor:
    """Return attention (B,T,H,E) whose bits do not depend on which other queries there are."""
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


def weighted_sum(scores_BTS: Tensor, v_BSE: Tensor, where: tuple[Tensor, Tensor]) -> Tensor:
    """Return sum_s softmax_s(scores) v_s (B,T,E) over the tokens that are seen."""
    seen, positions = where
    if current() == "exact":
        with torch.no_grad():
            parts = zip(scores_BTS, v_BSE, seen, positions[:, 0].tolist(), strict=True)
            out = torch.stack([_weigh(scores[:, see], v[see], first) for scores, v, see, first in parts])
        if not torch.is_grad_enabled():
            return out
    wide = torch.float64 if scores_BTS.dtype == torch.float64 else torch.float32
    weight = scores_BTS.to(wide).masked_fill(~seen[:, None], float("-inf")).softmax(-1)
    fast = weight.to(v_BSE.dtype) @ v_BSE
    if current() == "fast":
        return fast
    kept: Tensor = Substitute.apply(fast, out)
    return kept


def _weigh(scores_TS: Tensor, v_SE: Tensor, first: int) -> Tensor:
    """Weigh one sequence's values: exact attention whose queries and keys are nought, and whose scores a bias is."""
    (length, s), blank = scores_TS.shape, v_SE.new_zeros(1, 1, ROWS)
    wide = torch.float64 if scores_TS.dtype == torch.float64 else torch.float32
    q, k = blank.expand(length, -1, -1), blank.expand(s, -1, -1)
    return _one(q, k, v_SE[:, None], first, 1.0, scores_TS.to(wide))[:, 0]


def _one(
    q_THD: Tensor, k_SGD: Tensor, v_SGE: Tensor, first: int, scale: float, bias_TS: Tensor | None = None
) -> Tensor:
    """Return the attention (T,H,E) of one sequence; a bias needs H = G = 1."""
    length, heads, _ = q_THD.shape
    s, g = k_SGD.shape[:2]
    tokens = tile_tokens(heads // g)
    before = first % tokens
    tiles = -(-(before + length) // tokens)
    blocks = -(-s // BLOCK)
    ends = (before, tiles * tokens - before - length)
    q = F.pad(q_THD, (0, 0, 0, 0, *ends)).unflatten(0, (tiles, tokens))
    q = q.unflatten(2, (g, -1)).permute(2, 0, 1, 3, 4).reshape(g * tiles, -1, q_THD.shape[-1])
    k, v = (F.pad(x, (0, 0, 0, 0, 0, blocks * BLOCK - s)).transpose(0, 1) for x in (k_SGD, v_SGE))
    k, v = (x.unflatten(1, (blocks, BLOCK))[:, None].expand(-1, tiles, -1, -1, -1).flatten(0, 1) for x in (k, v))
    see = (torch.arange(blocks * BLOCK, device=q.device) < s).expand(g * tiles, q.shape[1], -1)
    extra = NOTHING
    if bias_TS is not None:
        extra = Extra(bias=F.pad(bias_TS, (0, blocks * BLOCK - s, *ends)).view(tiles, tokens, -1))
    y: Tensor = exact_attention(q, k, v, see, scale, extra).unflatten(0, (g, tiles)).unflatten(2, (tokens, -1))
    return y.permute(1, 2, 0, 3, 4).reshape(tiles * tokens, heads, -1)[before : before + length]
