"""The two problems that word2vec sets itself, in one form: which inputs should fit which outputs, and how often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hanok.classic.chunks import CHUNK, Batch
from hanok.classic.negative_sampling import gradients, loss

FARTHEST = 4.0


@dataclass(frozen=True)
class Problem:
    """Ids of input words (G, a) and output words (G, m), the mixing of inputs to n predictions (G, n, a) or None, and
    how often each pair counts as true and as drawn (G, n, m)."""

    inputs: Tensor
    outputs: Tensor
    mix: Tensor | None
    positive: Tensor
    negative: Tensor

    def loss(self, vectors: Tensor, outputs: Tensor) -> float:
        """Return the loss per true pair of the tables of input and output vectors."""
        found = loss(self._mixed(vectors[self.inputs]), outputs[self.outputs], self.positive, self.negative)
        return float(found / self.positive.sum().clamp(min=1))

    def descend(self, vectors: Tensor, outputs: Tensor, rate: float) -> None:
        """Take one step of gradient descent in both tables, in place."""
        h, u = self._mixed(vectors[self.inputs]), outputs[self.outputs]
        gh, gu = gradients(h, u, self.positive, self.negative)
        weights = self.positive + self.negative
        pairs = weights.sum(-1, keepdim=True)
        if self.mix is not None:
            gh, pairs = self.mix.mT @ gh, self.mix.mT @ pairs
        move(vectors, self.inputs, gh, pairs, rate)
        move(outputs, self.outputs, gu, weights.sum(-2), rate)

    def _mixed(self, rows: Tensor) -> Tensor:
        return rows if self.mix is None else self.mix @ rows


def move(table: Tensor, rows: Tensor, gradient: Tensor, pairs: Tensor, rate: float) -> None:
    """Step down the gradient (G, n, d) of the rows (G, n) of a table, each the sum over so many pairs.

    A word that comes often in one batch is pulled by all its pairs from the same place and would overshoot: its step is
    the mean over its pairs times the rate of them all, but at most times FARTHEST.
    """
    ids = rows.flatten()
    total = torch.zeros(len(table), dtype=table.dtype).index_add_(0, ids, pairs.flatten())
    steps = (FARTHEST / total.clamp(min=1e-9)).clamp(max=rate)[ids]
    table.index_add_(0, ids, gradient.flatten(0, 1) * steps[:, None], alpha=-1)


def skipgram(batch: Batch, negatives: int) -> Problem:
    """Return what skip-gram predicts: the words around each word.

    A drawn word counts against each neighbour, unless it is that very word.
    """
    clash = batch.near @ (batch.words[:, :, None] == batch.drawn[:, None]).float()
    against = (batch.near.sum(-1, keepdim=True) - clash) * (negatives / batch.drawn.shape[1])
    return Problem(
        inputs=batch.centres,
        outputs=torch.cat([batch.words, batch.drawn], 1),
        mix=None,
        positive=torch.cat([batch.near, torch.zeros_like(against)], -1),
        negative=torch.cat([torch.zeros_like(batch.near), against], -1),
    )


def cbow(batch: Batch, negatives: int) -> Problem:
    """Return what CBOW predicts: each word from the mean of its neighbours.

    The gradient is that of the loss, so that each neighbour gets its share of it. The original program gives each of
    them the whole, which is another rate for every width of window (Irsoy et al. 2021, arXiv 2012.15332).
    """
    many = batch.near.sum(-1, keepdim=True)
    some = (many > 0).float()
    against = some * (batch.centres[:, :, None] != batch.drawn[:, None]) * (negatives / batch.drawn.shape[1])
    positive = torch.eye(CHUNK) * some
    return Problem(
        inputs=batch.words,
        outputs=torch.cat([batch.centres, batch.drawn], 1),
        mix=batch.near / many.clamp(min=1),
        positive=torch.cat([positive, torch.zeros_like(against)], -1),
        negative=torch.cat([torch.zeros_like(positive), against], -1),
    )


PROBLEMS: Mapping[str, Callable[[Batch, int], Problem]] = {"skipgram": skipgram, "cbow": cbow}
