"""Softmax attention over keys and values, fast or exact.

Shapes: B batch, T queries, S keys, H query heads, G key heads (r = H / G share one), D and E the sizes of keys and
values; U independent units of R query rows, n key blocks of K keys.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.ops.numerics import elementwise

ROWS = 16  # query rows per exact tile
BLOCK = 32  # keys per exact block, and the engine's page size
SLAB = 1 << 22  # elements of gathered keys per exact slab: bounds memory, changes no bit


def plain_attention(q_BTHD: Tensor, k_BSGD: Tensor, v_BSGE: Tensor, see_BTS: Tensor | None, scale: float) -> Tensor:
    """Return softmax(q k^T * scale) v as (B,T,H,E); `see` is True where a query sees a key, None means causal (T = S).

    The fused kernel is the faster one in eager mode at every shape measured, forward and backward (docs/lab/002).
    """
    q, k, v = q_BTHD.transpose(1, 2), k_BSGD.transpose(1, 2), v_BSGE.transpose(1, 2)
    mask = None if see_BTS is None else see_BTS[:, None]
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out.transpose(1, 2)


def reference_attention(q_BTHD: Tensor, k_BSGD: Tensor, v_BSGE: Tensor, see_BTS: Tensor, scale: float) -> Tensor:
    """Spell `plain_attention` out: scores, mask, softmax in float32 or wider, weighted sum."""
    group = q_BTHD.shape[2] // k_BSGD.shape[2]
    k, v = k_BSGD.repeat_interleave(group, 2), v_BSGE.repeat_interleave(group, 2)
    score = torch.einsum("bthd,bshd->bhts", q_BTHD * scale, k)
    score = score if score.dtype == torch.float64 else score.float()
    weight = score.masked_fill(~see_BTS[:, None], float("-inf")).softmax(-1)
    return torch.einsum("bhts,bshe->bthe", weight.to(v.dtype), v)


def tile_tokens(group: int) -> int:
    """Return how many tokens share one exact query tile when `group` query heads share a key head."""
    return max(1, ROWS // group)


def exact_attention(q_URD: Tensor, k_UnKD: Tensor, v_UnKE: Tensor, see_URS: Tensor, scale: float) -> Tensor:
    """Return (U,R,E) attention whose bits, row by row, depend on that row and on what it sees alone.

    Every product has one fixed shape (R rows against one block of K keys), blocks are summed in their order, and a
    block that a row does not see adds exact zeros; so extra blocks, other units and other rows change no bit. The
    layout is part of the contract: the key at position p sits in block p // BLOCK at slot p % BLOCK, the token at
    position p at rows [(p % tile_tokens) * group, + group) of its tile. Unseen keys and values must be finite.
    """
    units, blocks = k_UnKD.shape[0], k_UnKD.shape[1]
    slab = max(1, SLAB // (blocks * k_UnKD.shape[2] * (k_UnKD.shape[3] + v_UnKE.shape[3])))
    parts = [
        _exact_slab(q_URD[i : i + slab], k_UnKD[i : i + slab], v_UnKE[i : i + slab], see_URS[i : i + slab], scale)
        for i in range(0, units, slab)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _exact_slab(q: Tensor, k: Tensor, v: Tensor, see: Tensor, scale: float) -> Tensor:
    units, rows, d = q.shape
    blocks, keys = k.shape[1], k.shape[2]
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    q_all = (q.to(wide) * scale).unsqueeze(1).expand(-1, blocks, -1, -1).reshape(-1, rows, d)
    k_all = k.to(wide).reshape(-1, keys, d).contiguous()
    score = torch.bmm(q_all, k_all.transpose(1, 2)).view(units, blocks, rows, keys)
    unseen = ~see.view(units, rows, blocks, keys).transpose(1, 2)
    score = score.masked_fill(unseen, float("-inf"))
    top = score.amax((1, 3), keepdim=True)  # a maximum has no rounding: its order is free
    top = top.masked_fill(top == float("-inf"), 0.0)
    weight = elementwise(torch.exp, score - top).view(-1, rows, keys)
    # A column of ones beside the values makes the softmax's denominator part of the same product.
    ones = F.pad(v.to(wide), (0, 1), value=1.0).reshape(-1, keys, v.shape[-1] + 1)
    partial = torch.bmm(weight, ones).view(units, blocks, rows, -1)
    total = partial[:, 0]
    for block in range(1, blocks):
        total = total + partial[:, block]
    denominator = total[..., -1:]
    return (total[..., :-1] / denominator.masked_fill(denominator == 0, 1.0)).to(q.dtype)


def exact_causal_attention(
    q_BTHD: Tensor, k_BTGD: Tensor, v_BTGE: Tensor, scale: float, window: int | None = None
) -> Tensor:
    """Return exact attention of whole sequences that start at position 0; the gradient is plain attention's."""
    out: Tensor = _ExactCausal.apply(q_BTHD, k_BTGD, v_BTGE, scale, window)
    return out


def causal_see(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """Return True where a query at a position sees a key at a position: not later, and within the window."""
    distance = queries.unsqueeze(-1) - keys.unsqueeze(-2)
    return distance >= 0 if window is None else (distance >= 0) & (distance < window)


class _ExactCausal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.scale, ctx.window = scale, window
        return _exact_causal(q, k, v, scale, window)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inputs = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        at = torch.arange(inputs[0].shape[1], device=inputs[0].device)
        with torch.enable_grad():
            see = None if ctx.window is None else causal_see(at, at, ctx.window)[None]
            out = plain_attention(inputs[0], inputs[1], inputs[2], see, ctx.scale)
        return *torch.autograd.grad(out, inputs, grads[0]), None, None


def _exact_causal(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
    """Lay queries out in tiles and keys in blocks; the tiles that end in key block j see blocks 0 .. j."""
    b, t, h, d = q.shape
    g, r = k.shape[2], h // k.shape[2]
    tokens = tile_tokens(r)
    blocks = -(-t // BLOCK)
    per_block = -(-BLOCK // tokens)  # tiles that start within one key block's positions
    k_all = F.pad(k, (0, 0, 0, 0, 0, blocks * BLOCK - t)).transpose(1, 2).unflatten(2, (blocks, BLOCK))
    v_all = F.pad(v, (0, 0, 0, 0, 0, blocks * BLOCK - t)).transpose(1, 2).unflatten(2, (blocks, BLOCK))
    tiles = -(-t // tokens)
    q_all = F.pad(q, (0, 0, 0, 0, 0, tiles * tokens - t)).unflatten(1, (tiles, tokens)).unflatten(3, (g, r))
    q_all = q_all.permute(0, 3, 1, 2, 4, 5).reshape(b, g, tiles, tokens * r, d)  # B G tile (token head) D
    out = q.new_empty(b, g, tiles, tokens * r, v.shape[-1])
    at = torch.arange(max(tiles * tokens, blocks * BLOCK), device=q.device)
    for first in range(0, tiles, per_block):
        part = slice(first, min(first + per_block, tiles))
        count = part.stop - part.start
        seen = min(blocks, -(-(part.stop * tokens) // BLOCK))
        rows = at[part.start * tokens : part.stop * tokens]
        see = causal_see(rows, at[: seen * BLOCK], window).unflatten(0, (count, tokens))
        see = see.repeat_interleave(r, 1).expand(b * g, -1, -1, -1)
        keys, values = (x[:, :, None, :seen].expand(-1, -1, count, -1, -1, -1).flatten(0, 2) for x in (k_all, v_all))
        y = exact_attention(q_all[:, :, part].flatten(0, 2), keys, values, see.flatten(0, 1), scale)
        out[:, :, part] = y.view(b, g, count, tokens * r, -1)
    laid: Tensor = out.unflatten(3, (tokens, r)).permute(0, 2, 3, 1, 4, 5)  # B tile token G r E
    return laid.reshape(b, tiles * tokens, h, v.shape[-1])[:, :t]
