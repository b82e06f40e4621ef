"""What an objective may ask of a policy, and the log-probs of the targets that count."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.nn.context import Dense, Source
from hanok.ops.linear_cross_entropy import Projection
from hanok.text.batch import Batch

Metrics = dict[str, Tensor]


class Policy(Protocol):
    """A model as training sees it: hidden states of whole sequences, and logits that are made row by row."""

    def hidden(self, tokens: Tensor, ctx: Any = None) -> Tensor:
        """Return the states (B, T, D) before the head."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of each state."""
        ...


@runtime_checkable
class Headed(Protocol):
    """A policy whose head may be a plain matrix, so that a loss need not hold all logits."""

    def before_head(self, hidden: Tensor) -> tuple[Tensor, Projection] | None:
        """Return the head, and what it multiplies; None where it is no plain matrix."""
        ...


@runtime_checkable
class Reader(Protocol):
    """A policy that reads a source before it writes."""

    def encode(self, source: Tensor, seen: Tensor | None = None) -> Source:
        """Return what the encoder made of source tokens (B,S)."""
        ...


class Objective(Protocol):
    """A loss as data and a function: `needs` names the columns, `count` weighs a micro-batch in its big batch.

    `loss` is the mean over `count(batch)` units (tokens, pairs, sequences), so that the loop's gradient over
    micro-batches, weighted by their counts, is that of the big batch.
    """

    needs: tuple[str, ...]

    def count(self, batch: Batch) -> Tensor:
        """Return how many units the loss is a mean over."""
        ...

    def __call__(self, policy: Policy, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the loss and detached metrics."""
        ...


def context_of(policy: Policy, batch: Batch) -> Dense:
    """Return the whole sequences of a batch as a context, with the columns "source" and "prefix" if there are any."""
    prefix, source = batch.columns.get("prefix"), None
    if "source" in batch.columns:
        if not isinstance(policy, Reader):
            raise UsageError("the batch has a source, which this policy cannot read")
        seen = batch.columns.get("source_seen")
        source = policy.encode(batch.columns["source"], None if seen is None else seen != 0)
    return Dense(batch.tokens, batch.positions, batch.segments, source, None if prefix is None else prefix != 0)


def counted_states(policy: Policy, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the states (N, D) of the N tokens whose weight is not zero, and their flat positions (N,).

    The head is the widest product of a small model; a prompt's tokens, which no loss asks about, never reach it.
    """
    states = policy.hidden(batch.tokens, context_of(policy, batch)).flatten(0, 1)
    where = batch.weights.flatten().nonzero().squeeze(1)
    return states if where.numel() == states.shape[0] else states.index_select(0, where), where


def counted_logits(policy: Policy, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the float32 logits (N, V) of the N tokens whose weight is not zero, and their flat positions (N,)."""
    states, where = counted_states(policy, batch)
    return policy.logits(states).float(), where


def token_logprobs(logits_NV: Tensor, batch: Batch, where: Tensor) -> Tensor:
    """Return log p(target) as (B, T), zero wherever the weight is zero."""
    targets = batch.targets.flatten().index_select(0, where)
    chosen = torch.log_softmax(logits_NV, -1).gather(-1, targets[:, None]).squeeze(-1)
    flat = torch.zeros(batch.weights.numel(), dtype=chosen.dtype, device=chosen.device)
    return flat.index_copy(0, where, chosen).view(batch.weights.shape)


def column(batch: Batch, name: str, objective: str) -> Tensor:
    """Return a column of the batch, or say which data is missing."""
    if name not in batch.columns:
        known = ", ".join(sorted(batch.columns)) or "none"
        raise UsageError(
            f"the objective {objective!r} needs the column {name!r}, which the batch lacks (it has: {known})"
        )
    return batch.columns[name]
