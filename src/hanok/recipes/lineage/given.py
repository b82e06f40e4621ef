"""Next-token prediction for decoders and for encoder-decoders alike: the column "source" is what an encoder reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.model.model import Model
from hanok.nn.context import Dense
from hanok.nn.router.tally import tallying
from hanok.text.batch import Batch
from hanok.text.data.stream import TokenStream

SOURCE = "source"


class Given:
    """Mean of -log p(target | earlier targets, source) over tokens that carry weight, plus what routers ask for."""

    needs: tuple[str, ...] = ()

    def count(self, batch: Batch) -> Tensor:
        """Return the sum of the weights."""
        return batch.weights.sum()

    def __call__(self, policy: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and the share of targets that were the likeliest token."""
        with tallying() as tally:
            logits, where = logits_of(policy, batch)
        targets = batch.targets.flatten()[where]
        loss = F.cross_entropy(logits, targets)
        right = (logits.detach().argmax(-1) == targets).float().mean()
        extra = tally.loss()
        return (loss if extra is None else loss + extra), {"mean_token_accuracy": right, "cross_entropy": loss.detach()}


def logits_of(model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the logits (N, V) of the targets whose weight is not zero, and their places."""
    source = batch.columns.get(SOURCE)
    ctx = Dense(batch.tokens, batch.positions, source=None if source is None else model.encode(source))
    where = batch.weights.flatten().nonzero().squeeze(1)
    hidden = model.hidden(batch.tokens, ctx).flatten(0, 1)
    return model.logits(hidden if len(where) == len(hidden) else hidden[where]).float(), where


def rows(tokens: Tensor, targets: Tensor, weights: Tensor | None = None, source: Tensor | None = None) -> Batch:
    """Return rows of one length, with positions from 0."""
    positions = torch.arange(tokens.shape[1]).expand_as(tokens).contiguous()
    seen = torch.ones(tokens.shape) if weights is None else weights
    columns = {} if source is None else {SOURCE: source.contiguous()}
    return Batch(tokens.contiguous(), targets.contiguous(), seen, positions, None, columns)


def halved(batch: Batch) -> Batch:
    """Return windows as sources (their first half) and continuations (the second), for an encoder and a decoder."""
    half = batch.tokens.shape[1] // 2
    return rows(batch.tokens[:, half:], batch.targets[:, half:], source=batch.tokens[:, :half])


@dataclass(frozen=True)
class Halves:
    """A stream of windows, each cut into source and continuation."""

    whole: TokenStream

    def next_batch(self) -> Batch:
        """Return the next windows."""
        return halved(self.whole.next_batch())

    def state(self) -> dict[str, Any]:
        """Return the exact position."""
        return self.whole.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a saved position."""
        self.whole.restore(state)
