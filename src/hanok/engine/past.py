"""What lies in a pool for one layer, and attention over it whose scores are treated before the softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hanok.engine.layout import Bucket, Ints
from hanok.engine.store import Store
from hanok.ops.attention import Scoring, scored_attention, seen_within

Wanted = tuple[float, int | None, Scoring]  # scale, window, what happens to scores


class Past(NamedTuple):
    """One layer of the pool, keys (G,N,D) and values (G,N,E); no values where they are the head of the keys."""

    keys: Tensor
    values: Tensor | None
    v_dim: int

    @property
    def width(self) -> int:
        """Return the bytes that one token takes."""
        numbers = self.keys.shape[-1] + (0 if self.values is None else self.v_dim)
        return self.keys.shape[0] * numbers * self.keys.element_size()

    def run(self, slots: slice) -> tuple[Tensor, Tensor]:
        """Return keys and values of consecutive token slots, in place."""
        k = self.keys[:, slots]
        return k, k[..., : self.v_dim] if self.values is None else self.values[:, slots]


def gather(store: Store, past: Past, units: Tensor, size: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return units of `size` tokens as keys (*shape, D) and values (*shape, E)."""
    k = store.gather(past.keys, units, size, "k").view(*shape, past.keys.shape[-1])
    if past.values is None:
        return k, k[..., : past.v_dim]
    return k, store.gather(past.values, units, size, "v").view(*shape, past.v_dim)


def distances(at: tuple[Ints, Ints], queries: int, keys: int, device: torch.device) -> Tensor:
    """Return query minus key positions (m,T,S), given the first query's and the first key's of each of m rows."""
    first_query, first_key = (torch.from_numpy(x).to(device) for x in at)
    query = first_query[:, None] + torch.arange(queries, device=device)
    key = first_key[:, None] + torch.arange(keys, device=device)
    return query[:, :, None] - key[:, None]


def scored(
    store: Store, plan: Sequence[Bucket], new: tuple[Tensor, Tensor, Tensor], past: Past, wanted: Wanted
) -> Tensor:
    """Attend from the step's tokens, bucket by bucket, with scores treated as wanted."""
    out = new[0].new_empty(*new[0].shape[:-1], past.v_dim)
    for bucket in plan:
        at = slice(None) if bucket.tokens is None else bucket.tokens
        q = new[0][0, at].unflatten(0, (bucket.rows, bucket.queries))
        if bucket.units is None and not bucket.runs:  # a sequence's first chunk attends to itself alone
            out[0, at] = _attend((q, new[1][:, at], new[2][:, at]), bucket, wanted).flatten(0, 1)
        elif bucket.units is None:
            assert bucket.at is not None
            first_query, first_key = bucket.at
            for row, run in enumerate(bucket.runs):
                own = Bucket(None, 1, bucket.queries, at=(first_query[row : row + 1], first_key[row : row + 1]))
                k, v = (x.transpose(0, 1)[None] for x in past.run(run))
                places = slice(row * bucket.queries, (row + 1) * bucket.queries)
                target = torch.arange(out.shape[1], device=out.device)[at][places]
                out[0, target] = _attend((q[row : row + 1], k, v), own, wanted)[0]
        else:
            heads = past.keys.shape[0]
            k, v = gather(store, past, bucket.units, store.page_size, (heads, bucket.rows, -1))
            kv = (k.permute(1, 2, 0, 3), v.permute(1, 2, 0, 3))
            out[0, at] = _attend((q, *kv), bucket, wanted).flatten(0, 1)
    return out


def _attend(qkv: tuple[Tensor, Tensor, Tensor], bucket: Bucket, wanted: Wanted) -> Tensor:
    scale, window, how = wanted
    assert bucket.at is not None, "a bucket knows where its queries and keys are"
    apart = distances(bucket.at, qkv[0].shape[1], qkv[1].shape[1], qkv[0].device)
    return scored_attention(qkv, apart, seen_within(apart, window), scale, how)
