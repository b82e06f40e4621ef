"""Context parallelism: each rank reads a stretch of every row; keys and values are gathered for attention."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.nn.context import Dense, PerSequence, Recurrence, Source
from hanok.ops.attention import PLAIN, Scoring, plain_attention, scored_attention
from hanok.ops.linear_cross_entropy import Projection
from hanok.ops.numerics import current
from hanok.text.batch import Batch
from hanok.train.parallel.exchange import gather


class Stretch(Dense):
    """A context for this rank's T of the n T tokens of each row: queries are its own, keys and values everyone's.

    What a query sees depends on places in the whole row, and with `segments` on the document. Llama 3 trains so
    (arXiv 2407.21783, section 3.3.2): gathering suits any mask, at the cost of holding a layer's keys whole.
    """

    def __init__(self, whole: Dense, group: Any) -> None:
        super().__init__(whole.positions, whole.positions, whole.segments)
        self.group, self.index, self.length = group, group.rank(), whole.positions.shape[1]
        self._seen_segments = None if self.segments is None else gather(self.segments, group)

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
        if current() != "fast":
            raise UsageError("parallel.context gathers keys as they come: it needs numerics 'fast'")
        k, v = gather(k, self.group), gather(v, self.group)
        see = self._see(window, how)
        if how.plain:
            return plain_attention(q, k, v, see.expand(q.shape[0], -1, -1), scale)
        return scored_attention((q, k, v), self._distances(), see, scale, how)

    def recur(self, layer: int, fn: Recurrence, x: Tensor, memory: PerSequence) -> Tensor:
        raise UsageError("parallel.context divides rows, which a layer with a state has to read in one go")

    def _distances(self) -> Tensor:
        if self._distance is None:
            keys = torch.arange(self.length * self.group.size(), device=self.positions.device)
            queries = keys[self.index * self.length : (self.index + 1) * self.length]
            self._distance = (queries[:, None] - keys)[None]
        return self._distance

    def _see(self, window: int | None, how: Scoring) -> Tensor:
        if self._seen_segments is None or self.segments is None:
            return super()._see(window, how)
        plan = (window, how.see)
        if plan not in self._masks:
            same = self.segments.unsqueeze(-1) == self._seen_segments.unsqueeze(-2)
            plain = Stretch(Dense(self.positions, self.positions), self.group)
            self._masks[plan] = plain._see(window, how) & same
        return self._masks[plan]


class ContextPolicy:
    """A policy whose hidden states are of this rank's stretch of the rows."""

    def __init__(self, policy: Any, group: Any) -> None:
        self.policy, self.group = policy, group

    def hidden(self, tokens: Tensor, ctx: Dense | None = None) -> Tensor:
        """Return the states (B, T, D) of this rank's tokens."""
        whole = Dense(tokens) if ctx is None else ctx
        if ctx is None:
            whole.positions = whole.positions + self.group.rank() * tokens.shape[1]
        if isinstance(whole.source, Source):
            raise UsageError("parallel.context knows no cross-attention")
        out: Tensor = self.policy.hidden(tokens, Stretch(whole, self.group))
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of each state."""
        out: Tensor = self.policy.logits(hidden)
        return out

    def before_head(self, hidden: Tensor) -> tuple[Tensor, Projection] | None:
        """Return the head, and what it multiplies; None where it is no plain matrix."""
        found: tuple[Tensor, Projection] | None = self.policy.before_head(hidden)
        return found


def stretch(batch: Batch, rank: int, size: int) -> Batch:
    """Return this rank's columns of a batch of whole rows, padded with weight 0 to a multiple of `size`."""
    width = batch.tokens.shape[1]
    length = -(-width // size)

    def cut(x: Tensor, fill: float) -> Tensor:
        if x.dim() < 2:
            return x
        if width % size:
            x = torch.cat([x, x.new_full((x.shape[0], length * size - width, *x.shape[2:]), fill)], 1)
        return x[:, rank * length : (rank + 1) * length].contiguous()

    filling = {"segments": -1}
    parts = {
        item.name: cut(value, filling.get(item.name, 0))
        for item in fields(batch)
        if isinstance(value := getattr(batch, item.name), Tensor)
    }
    return replace(batch, **parts, columns={name: cut(value, 0) for name, value in batch.columns.items()})
