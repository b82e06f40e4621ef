"""Batches of the shape that a run will see, whatever it is to learn by."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.nn.context import PerToken
from hanok.text.batch import Batch
from hanok.text.data.changed import changed
from hanok.text.tokenizer import Tokenizer
from hanok.train.config import TrainingConfig
from hanok.train.objective import OBJECTIVES
from hanok.train.objective.base import TokenMean
from hanok.train.objective.clm import NextToken

SMALLEST = 300  # tokens of the stand-in for a tokenizer: bytes, specials and a few merges


def objective_of(config: TrainingConfig) -> TokenMean:
    """Return what a run learns by: next tokens, unless its configuration says otherwise."""
    wanted = getattr(config, "objective", None)
    if wanted is None:
        return NextToken(NextToken.Config())
    part = OBJECTIVES[wanted.kind]
    if not issubclass(part, TokenMean):
        raise UsageError(f"plans are for pre-training: the objective {wanted.kind!r} needs more than text")
    made: TokenMean = part(wanted)
    return made


def next_tokens(vocab: int, batch: int, length: int) -> Batch:
    """Return a batch (B, T) of random tokens whose targets are the ones that follow, the same in each call."""
    rows = torch.randint(0, vocab, (batch, length + 1), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(length).expand(batch, length).contiguous()
    return Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), torch.ones(batch, length), positions)


def example(config: TrainingConfig, vocab: int, objective: TokenMean, *, packed: bool = False) -> Batch:
    """Return a micro-batch (B, T) of random tokens as the objective has it: hidden, cut or with a prefix, in columns.

    Which tokens there are changes no shape, so that a stand-in serves as the tokenizer. `packed` rows number their
    documents, here one each.
    """
    batch = next_tokens(min(vocab, SMALLEST), config.batch, config.length)
    if packed:
        batch = replace(batch, segments=torch.zeros_like(batch.tokens))
    _, change = objective.reads(Tokenizer.train(["a text"], vocab_size=SMALLEST))
    if change is None:
        return batch
    found = changed(batch, change, seed=0, number=0)
    columns = {name: _known(value, vocab) for name, value in found.columns.items()}
    return replace(found, tokens=_known(found.tokens, vocab), targets=_known(found.targets, vocab), columns=columns)


def packs(config: TrainingConfig, model: Model) -> bool:
    """Return whether rows carry document masks, as far as a rehearsal can follow: a recurrence goes by values."""
    return bool(getattr(config, "packing", False)) and all(isinstance(kept, PerToken) for kept in model.memory())


def _known(ids: Tensor, vocab: int) -> Tensor:
    return ids.remainder(vocab) if ids.dtype == torch.int64 else ids


class Copies:
    """A source that gives the same batch again and again, each time as tensors of its own."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def next_batch(self) -> Batch:
        """Return a copy."""
        batch = self.batch
        segments = None if batch.segments is None else batch.segments.clone()
        columns = {name: value.clone() for name, value in batch.columns.items()}
        tokens, targets = batch.tokens.clone(), batch.targets.clone()
        return Batch(tokens, targets, batch.weights.clone(), batch.positions.clone(), segments, columns)

    def state(self) -> dict[str, object]:
        """Return nothing: there is no position."""
        return {}

    def restore(self, state: dict[str, object]) -> None:
        """Do nothing."""
