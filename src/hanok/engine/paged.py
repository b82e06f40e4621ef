"""The engine's context: a ragged (1, T) batch over paged memory; the model never learns which one it was given."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.engine.layout import Bucket, Layout, Row, Tiles, located
from hanok.engine.past import Past, Wanted, distances, gather, scored
from hanok.engine.pool import Pool
from hanok.nn.context import Make, PerSequence, Read, Recurrence
from hanok.ops.attention import (
    BLOCK,
    NOTHING,
    PLAIN,
    Scoring,
    exact_attention,
    plain_attention,
    spread,
    tile_tokens,
)
from hanok.ops.native.attend import Where, attend, where
from hanok.ops.native.product import exact_ready, ready
from hanok.ops.numerics import current

FEW = 64  # tokens of a step up to which each attends by the kernels, however much it reads
FAR = 2048  # positions from which on a prompt's attention is as fast, or faster, in torch


class Paged:
    """New tokens of several sequences laid end to end, each with its past in the pool.

    In exact numerics a token's attention has the bits of `Dense`, whatever the batch, chunks, pages and their order.
    """

    keeps = True

    def __init__(self, pool: Pool, rows: Sequence[Row]) -> None:
        self._pool, self._store, self._rows = pool, pool.store, rows
        self.at = located(pool, rows)
        self._buckets: dict[tuple[int | None, int, int], list[Bucket]] = {}
        self._places: dict[int, tuple[int, Tensor]] = {}
        self._tiles: dict[tuple[int | None, int, int], list[Tiles]] = {}
        self._where: Where | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Return which memory of which pool this is: it moves when the pool grows."""
        return id(self._store), self._store.moves

    @property
    def device(self) -> torch.device:
        """Return where the memory lies."""
        return self._store.device

    @cached_property
    def positions(self) -> Tensor:
        """Return the tokens' positions (1,T)."""
        return torch.from_numpy(self.at.positions).to(self._store.device)[None]

    @cached_property
    def _layout(self) -> Layout:
        return Layout(self._pool, self._rows, self.at)

    @cached_property
    def _writes(self) -> Tensor:
        return self._layout.writes()

    @cached_property
    def _groups(self) -> list[tuple[Tensor | None, Tensor, int, int]]:
        return self._layout.equal_lengths()

    @cached_property
    def _by_torch(self) -> bool:
        return len(self.at.positions) > FEW and bool(self.at.positions.max() >= FAR)

    def follow(self, other: Paged) -> None:
        """Become another step of as many tokens, in the same place: what kernel calls were told stays true.

        The positions are one array: the kernels', and the tensor's that the model has seen.
        """
        assert self._where is not None and self._where.positions is self.at.positions, "a recorded step has attended"
        self._where.follow(*other.at)

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float,
        window: int | None = None,
        how: Scoring = PLAIN,
    ) -> Tensor:
        if how.see != "past":
            raise UsageError("a mixer that sees the future cannot generate token by token")
        keys = self._store.k[layer]
        values = self._store.v.get(layer)  # None: shared memory, where the value is the head of the key
        y = self._by_kernel((q[0], k[0], v[0]), keys, values, (scale, window, how))
        if y is not None:
            return y[None]
        keys.index_copy_(1, self._writes, k[0].transpose(0, 1))
        if values is not None:
            values.index_copy_(1, self._writes, v[0].transpose(0, 1))
        past = Past(keys, values, v.shape[-1])
        if current() == "exact":
            return self._exact(q[0], past, (scale, window, how))[None]
        if not how.plain:
            return scored(self._store, self._plan(past, window), (q, k, v), past, (scale, window, how))
        return self._fast((q, k, v), past, scale, window)

    def recur(self, layer: int, fn: Recurrence, x: Tensor, memory: PerSequence) -> Tensor:
        states = self._store.state[layer]
        out: Tensor | None = None
        for tokens, rows, batch, length in self._groups:
            part = x[0] if tokens is None else x[0].index_select(0, tokens)
            y, after = fn(part.view(batch, length, -1), states.index_select(0, rows))
            states.index_copy_(0, rows, after)
            if tokens is None:
                return y.reshape(1, batch * length, -1)
            out = y.new_empty(x.shape[1], y.shape[-1]) if out is None else out
            out.index_copy_(0, tokens, y.reshape(batch * length, -1))
        assert out is not None, "a step has rows"
        return out[None]

    def look(self, layer: int, x: Tensor, make: Make, read: Read) -> Tensor:
        parts, end = [], 0
        for row in self._layout.rows:
            source, part = row.slot.source, slice(end, end + row.length)
            end += row.length
            if source is None:
                raise UsageError("this model looks at a source sequence: the request needs one (source=...)")
            if layer not in source.made:
                source.made[layer] = make(source.states)
            made = source.made[layer]
            seen = torch.ones(1, source.states.shape[1], dtype=torch.bool, device=x.device)
            parts.append(read(x[:, part], self.positions[:, part], made, seen))
        return torch.cat(parts, 1)

    def _by_kernel(
        self, new: tuple[Tensor, Tensor, Tensor], keys: Tensor, values: Tensor | None, wanted: Wanted
    ) -> Tensor | None:
        """Write and attend in one call, (T,H,E); None where that cannot be or is not the quickest."""
        q, library = new[0], None
        if current() == "exact":
            library = exact_ready(q, keys)
        elif q.dtype == keys.dtype and not self._by_torch:
            library = ready(q)
        if library is None or torch.is_grad_enabled():
            return None
        if self._where is None:
            self._where = where(*self.at, self._pool.page_size)
        return attend(library, self._where, new, keys, values, wanted)

    def _plan(self, past: Past, window: int | None) -> list[Bucket]:
        plan = (window, past.keys.shape[0], past.width)
        if plan not in self._buckets:
            self._buckets[plan] = self._layout.buckets(*plan)
        return self._buckets[plan]

    def _fast(self, new: tuple[Tensor, Tensor, Tensor], past: Past, scale: float, window: int | None) -> Tensor:
        q = new[0]
        out: Tensor | None = None
        for bucket in self._plan(past, window):
            at = bucket.tokens
            if bucket.units is None and not bucket.runs:  # a sequence's first chunk attends to itself alone
                own = new if at is None else tuple(x.index_select(1, at) for x in new)
                y = plain_attention(own[0], own[1], own[2], bucket.see_bTS, scale)[0]
            else:
                y = self._past(q[0] if at is None else q[0].index_select(0, at), past, bucket, scale)
            if at is None:
                return y[None]
            out = y.new_empty(q.shape[1], *y.shape[1:]) if out is None else out
            out.index_copy_(0, at, y)
        assert out is not None, "a step has rows"
        return out[None]

    def _past(self, q_THD: Tensor, past: Past, bucket: Bucket, scale: float) -> Tensor:
        """Attend over stored keys, with key heads folded into the batch: the pool lies heads first."""
        heads, b, t = past.keys.shape[0], bucket.rows, bucket.queries
        if bucket.runs and t == 1:
            return _one_by_one(q_THD, past, bucket.runs, scale)
        q = q_THD.view(b, t, heads, -1, q_THD.shape[-1]).permute(2, 0, 1, 3, 4).flatten(0, 1)
        if bucket.units is None:
            k, v = past.run(bucket.runs[0])
        else:
            k, v = gather(self._store, past, bucket.units, self._store.page_size, (heads * b, -1))
        if t == 1:
            y = _together(q[:, 0], k, v, bucket.bias_N1S, scale)
        else:
            y = plain_attention(q, k.unsqueeze(2), v.unsqueeze(2), bucket.see_bTS, scale)
        return y.view(heads, b, t, -1, y.shape[-1]).permute(1, 2, 0, 3, 4).reshape(b * t, -1, y.shape[-1])

    def _exact(self, q_THD: Tensor, past: Past, wanted: Wanted) -> Tensor:
        """Attend in the tiles and blocks of the exact layout, several sequences' tiles at a time."""
        scale, window, how = wanted
        heads, d = past.keys.shape[0], q_THD.shape[-1]
        group = q_THD.shape[1] // heads
        if (window, group, heads) not in self._tiles:
            self._places[group] = self._layout.tile_of(group)
            self._tiles[window, group, heads] = self._layout.tiles(window, group, heads)
        count, places = self._places[group]
        tokens = tile_tokens(group)
        q = q_THD.new_zeros(count * tokens, q_THD.shape[1], d).index_copy_(0, places, q_THD)
        q = q.view(count, tokens, heads, group, d).permute(2, 0, 1, 3, 4).reshape(heads, count, -1, d)
        out = q_THD.new_empty(heads, count, tokens * group, past.v_dim)
        for part in self._tiles[window, group, heads]:
            queries = q if part.tiles is None else q.index_select(1, part.tiles)
            k, v = gather(self._store, past, part.units, BLOCK, (heads * part.count, -1, BLOCK))
            see = part.see_mTS.expand(heads, -1, -1, -1).flatten(0, 1)
            extra = NOTHING
            if not how.plain:
                extra = spread(how, distances(part.at, tokens, see.shape[-1], q.device), heads)
            y = exact_attention(queries.flatten(0, 1), k, v, see, scale, extra).view(heads, part.count, -1, past.v_dim)
            if part.tiles is None:
                out = y
            else:
                out.index_copy_(1, part.tiles, y)
        out = out.view(heads, count, tokens, group, -1).permute(1, 2, 0, 3, 4).reshape(count * tokens, -1, past.v_dim)
        return out.index_select(0, places)


def _together(q_NrD: Tensor, k_NSD: Tensor, v_NSE: Tensor, bias_N1S: Tensor | None, scale: float) -> Tensor:
    """Return softmax(q k^T * scale + bias) v as (N,r,E): plain attention of one token each, in the fewest calls."""
    assert bias_N1S is not None, "a padded batch has a bias"
    score = torch.baddbmm(bias_N1S, q_NrD, k_NSD.transpose(1, 2), alpha=scale)
    return torch.bmm(score.softmax(-1, dtype=_wide(score)).to(v_NSE.dtype), v_NSE)


def _one_by_one(q_THD: Tensor, past: Past, runs: Sequence[slice], scale: float) -> Tensor:
    """Return plain attention of one token each as (T,H,E), over keys that are viewed where they lie."""
    heads, (rows, _, d) = past.keys.shape[0], q_THD.shape
    q = (q_THD * scale).view(rows, heads, -1, d)
    out = q.new_empty(rows, heads, q.shape[2], past.v_dim)
    for q_GrD, run, y_GrE in zip(q.unbind(), runs, out.unbind(), strict=True):
        k, v = past.run(run)
        score = torch.bmm(q_GrD, k.transpose(1, 2))
        torch.bmm(score.softmax(-1, dtype=_wide(score)).to(v.dtype), v, out=y_GrE)
    return out.view(rows, -1, past.v_dim)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
