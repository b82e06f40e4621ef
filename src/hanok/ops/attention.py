"""Softmax attention over keys and values, fast or exact.

Shapes: B batch, T queries, S keys, H query heads, G key heads (r = H / G share one), D and E the sizes of keys and
values; U independent units of R query rows, n key blocks of K keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.core.device import native_bfloat16
from hanok.ops.gradient import with_gradient
from hanok.ops.native.attend import attend_whole
from hanok.ops.native.product import exact_ready
from hanok.ops.numerics import elementwise

ROWS = 16  # query rows per exact tile
BLOCK = 32  # keys per exact block, and the engine's page size
SPELT = 512  # tokens up to which training in bfloat16 on a CPU spells attention out: the fused backward is slow there
SLAB = 1 << 22  # elements of gathered keys per exact slab: bounds memory, changes no bit

Bias = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Scoring:
    """What happens to scores between the product of queries and keys and the softmax, in this order.

    `softcap` c: s -> c tanh(s / c). `bias`: distances (query minus key position, int64, any shape) -> (H, *shape),
    added. `see`: which keys a query sees. `sinks` (H,): the score of a key that every query sees and that has no value.
    """

    softcap: float | None = None
    bias: Bias | None = None
    sinks: Tensor | None = None
    see: Literal["past", "all"] = "past"

    @property
    def plain(self) -> bool:
        """Say whether scores are left as they are, whichever keys are seen."""
        return self.softcap is None and self.bias is None and self.sinks is None


PLAIN = Scoring()


class Extra(NamedTuple):
    """A `Scoring` laid out for exact units: bias (U,R,S) and sinks (U,R)."""

    softcap: float | None = None
    bias: Tensor | None = None
    sinks: Tensor | None = None

    def part(self, units: slice) -> Extra:
        """Return the part of some units."""
        bias, sinks = self.bias, self.sinks
        return Extra(self.softcap, None if bias is None else bias[units], None if sinks is None else sinks[units])

    def repeat(self, times: int) -> Extra:
        """Return the same units, laid end to end so many times."""
        bias, sinks = self.bias, self.sinks
        return Extra(
            self.softcap,
            None if bias is None else bias.repeat(times, 1, 1),
            None if sinks is None else sinks.repeat(times, 1),
        )


NOTHING = Extra()


def plain_attention(q_BTHD: Tensor, k_BSGD: Tensor, v_BSGE: Tensor, see_BTS: Tensor | None, scale: float) -> Tensor:
    """Return softmax(q k^T * scale) v as (B,T,H,E); `see` is True where a query sees a key, None means causal (T = S).

    The fused kernel is the faster one in float32 at every shape measured, forward and backward, compiled or not; its
    backward in bfloat16 on a CPU is not (docs/lab/002, docs/lab/006).
    """
    q, k, v = q_BTHD.transpose(1, 2), k_BSGD.transpose(1, 2), v_BSGE.transpose(1, 2)
    mask = None if see_BTS is None else see_BTS[:, None]
    if q.dtype == torch.bfloat16 and q.requires_grad and q.shape[2] <= SPELT and _spells(q.device.type):
        return _spelt_out(q, k, v, mask, scale)
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out.transpose(1, 2)


def _spells(device: str) -> bool:
    return device == "cpu" and native_bfloat16(device)


def _spelt_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return attention of (B,H,T,D) as two products with a softmax between."""
    group = q.shape[1] // k.shape[1]
    k, v = (x if group == 1 else x.repeat_interleave(group, 1) for x in (k, v))
    if mask is None:
        mask = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).tril()
    score = (q * scale) @ k.transpose(2, 3)
    weight = score.float().masked_fill(~mask, float("-inf")).softmax(-1).to(v.dtype)
    return (weight @ v).transpose(1, 2)


def scored_attention(
    qkv: tuple[Tensor, Tensor, Tensor], distance_BTS: Tensor, see_BTS: Tensor, scale: float, how: Scoring = PLAIN
) -> Tensor:
    """Return attention (B,T,H,E) of q (B,T,H,D), k (B,S,G,D), v (B,S,G,E) whose scores are treated as `how` says.

    Masks and distances may have B = 1. Every query must see a key, or there must be sinks.
    """
    q, k, v = qkv
    bias = None if how.bias is None else how.bias(distance_BTS).movedim(0, 1)
    if how.softcap is None and how.sinks is None:
        mask = see_BTS[:, None] if bias is None else bias.to(q.dtype).masked_fill(~see_BTS[:, None], float("-inf"))
        out = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask, scale=scale, enable_gqa=True
        )
        return out.transpose(1, 2)
    grouped = q.unflatten(2, (k.shape[2], -1))
    score = torch.einsum("btgrd,bsgd->bgrts", grouped * scale, k).flatten(1, 2)
    score = score if score.dtype == torch.float64 else score.float()
    if how.softcap is not None:
        score = how.softcap * torch.tanh(score / how.softcap)
    if bias is not None:
        score = score + bias
    score = score.masked_fill(~see_BTS[:, None], float("-inf"))
    if how.sinks is not None:
        sink = how.sinks.to(score.dtype).view(1, -1, 1, 1).expand(*score.shape[:-1], 1)
        score = torch.cat((score, sink), -1)
    weight = score.softmax(-1)[..., : k.shape[1]].to(v.dtype)
    out = torch.einsum("bgrts,bsge->btgre", weight.unflatten(1, (k.shape[2], -1)), v)
    return out.flatten(2, 3)


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


def exact_attention(
    q_URD: Tensor, k_UnKD: Tensor, v_UnKE: Tensor, see_URS: Tensor, scale: float, extra: Extra = NOTHING
) -> Tensor:
    """Return (U,R,E) attention whose bits, row by row, depend on that row and on what it sees alone.

    Every product has one fixed shape (R rows against one block of K keys), blocks are summed in their order, and a
    block that a row does not see adds exact zeros; so extra blocks, other units and other rows change no bit. The
    layout is part of the contract: the key at position p sits in block p // BLOCK at slot p % BLOCK, the token at
    position p at rows [(p % tile_tokens) * group, + group) of its tile. Unseen keys and values must be finite.
    """
    units, blocks = k_UnKD.shape[0], k_UnKD.shape[1]
    slab = max(1, SLAB // (blocks * k_UnKD.shape[2] * (k_UnKD.shape[3] + v_UnKE.shape[3])))
    parts = []
    for start in range(0, units, slab):
        i = slice(start, start + slab)
        parts.append(_exact_slab(q_URD[i], k_UnKD[i], v_UnKE[i], see_URS[i], scale, extra.part(i)))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _exact_slab(q: Tensor, k: Tensor, v: Tensor, see: Tensor, scale: float, extra: Extra) -> Tensor:
    given, blocks, keys = q.shape[1], k.shape[1], k.shape[2]
    if given % ROWS:  # products of an odd number of rows end in a routine whose bits depend on where its operands lie
        pad = -given % ROWS
        q, see = F.pad(q, (0, 0, 0, pad)), F.pad(see, (0, 0, 0, pad))
        bias = None if extra.bias is None else F.pad(extra.bias, (0, 0, 0, pad))
        extra = Extra(extra.softcap, bias, None if extra.sinks is None else F.pad(extra.sinks, (0, pad)))
    units, rows, d = q.shape
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    q_all = (q.to(wide) * scale).unsqueeze(1).expand(-1, blocks, -1, -1).reshape(-1, rows, d)
    k_all = k.to(wide).reshape(-1, keys, d).contiguous()
    score = torch.bmm(q_all, k_all.transpose(1, 2)).view(units, blocks, rows, keys)
    if extra.softcap is not None:
        score = extra.softcap * elementwise(torch.tanh, score / extra.softcap)
    if extra.bias is not None:
        score = score + extra.bias.view(units, rows, blocks, keys).transpose(1, 2)
    score = score.masked_fill(~see.view(units, rows, blocks, keys).transpose(1, 2), float("-inf"))
    top = score.amax((1, 3), keepdim=True)  # a maximum has no rounding: its order is free
    sinks = None if extra.sinks is None else extra.sinks.to(wide)[:, None, :, None]
    top = top if sinks is None else torch.maximum(top, sinks)
    top = top.masked_fill(top == float("-inf"), 0.0)
    weight = elementwise(torch.exp, score - top).view(-1, rows, keys)
    # A column of ones beside the values makes the softmax's denominator part of the same product.
    ones = F.pad(v.to(wide), (0, 1), value=1.0).reshape(-1, keys, v.shape[-1] + 1)
    partial = torch.bmm(weight, ones).view(units, blocks, rows, -1)
    total = partial[:, 0]
    for block in range(1, blocks):
        total = total + partial[:, block]
    denominator = total[..., -1:]
    if sinks is not None:
        denominator = denominator + elementwise(torch.exp, sinks - top)[:, 0]
    out = total[..., :-1] / denominator.masked_fill(denominator == 0, 1.0)
    return out[:, :given].to(q.dtype)


def exact_whole_attention(
    qkv: tuple[Tensor, Tensor, Tensor], scale: float, window: int | None = None, how: Scoring = PLAIN
) -> Tensor:
    """Return exact attention of whole sequences that start at position 0; the gradient is fast attention's."""
    if how.plain and how.see == "past":
        exact = partial(_exact_whole, scale=scale, window=window, how=how)
        return with_gradient(exact, partial(_causal, scale=scale, window=window), *qkv)
    with torch.no_grad():
        out = _exact_whole(*qkv, scale, window, how)
    if not torch.is_grad_enabled():
        return out
    at = torch.arange(qkv[0].shape[1], device=out.device)
    distance = (at[:, None] - at[None])[None]
    substitute: Tensor = Substitute.apply(
        scored_attention(qkv, distance, seen_within(distance, window, how.see), scale, how), out
    )
    return substitute


def spread(how: Scoring, distance_mTS: Tensor, heads: int) -> Extra:
    """Lay a `Scoring` out for units (heads * m) of rows (T * group), given the distances of m tiles of T tokens."""
    tiles, tokens, _ = distance_mTS.shape
    bias = sinks = None
    if how.bias is not None:
        laid = how.bias(distance_mTS).unflatten(0, (heads, -1))  # G r m T S
        bias = laid.permute(0, 2, 3, 1, 4).reshape(heads * tiles, -1, distance_mTS.shape[-1])
    if how.sinks is not None:
        sinks = how.sinks.view(heads, 1, 1, -1).expand(-1, tiles, tokens, -1).reshape(heads * tiles, -1)
    return Extra(how.softcap, bias, sinks)


def seen_within(distance: Tensor, window: int | None, see: Literal["past", "all"] = "past") -> Tensor:
    """Return True where a query sees a key that lies `distance` before it: not later, and within the window."""
    if see == "all":
        return torch.ones_like(distance, dtype=torch.bool) if window is None else distance.abs() < window
    return distance >= 0 if window is None else (distance >= 0) & (distance < window)


def causal_see(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """Return True where a query at a position sees a key at a position: not later, and within the window."""
    return seen_within(queries.unsqueeze(-1) - keys.unsqueeze(-2), window)


def _causal(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
    at = torch.arange(q.shape[1], device=q.device)
    return plain_attention(q, k, v, None if window is None else causal_see(at, at, window)[None], scale)


class Substitute(torch.autograd.Function):
    """The value of `exact` with the gradient of `fast`."""

    @staticmethod
    def forward(ctx: Any, fast: Tensor, exact: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None


def _exact_whole(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, how: Scoring) -> Tensor:
    library = exact_ready(q, k) if how.see == "past" else None
    if library is None:
        return _exact_tiles(q, k, v, scale, window, how)
    return attend_whole(library, (q, k, v), (scale, window, how))


def _exact_tiles(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, how: Scoring) -> Tensor:
    """Lay queries out in tiles and keys in blocks; causal tiles that end in key block j see blocks 0 .. j."""
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
        seen = blocks if how.see == "all" else min(blocks, -(-(part.stop * tokens) // BLOCK))
        keys_at = at[: seen * BLOCK]
        distance = (at[part.start * tokens : part.stop * tokens, None] - keys_at).unflatten(0, (count, tokens))
        see = (seen_within(distance, window, how.see) & (keys_at < t)).repeat_interleave(r, 1)
        extra = NOTHING if how.plain else spread(how, distance, g).repeat(b)
        keys, values = (x[:, :, None, :seen].expand(-1, -1, count, -1, -1, -1).flatten(0, 2) for x in (k_all, v_all))
        see = see.expand(b * g, -1, -1, -1).flatten(0, 1)
        y = exact_attention(q_all[:, :, part].flatten(0, 2), keys, values, see, scale, extra)
        out[:, :, part] = y.view(b, g, count, tokens * r, -1)
    laid: Tensor = out.unflatten(3, (tokens, r)).permute(0, 2, 3, 1, 4, 5)  # B tile token G r E
    return laid.reshape(b, tiles * tokens, h, v.shape[-1])[:, :t]
