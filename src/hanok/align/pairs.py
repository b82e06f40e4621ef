"""Preference pairs as a stream: chosen and rejected answers in neighbouring rows, with the reference's log-probs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hanok.align.score import row_scores
from hanok.core.config import digest
from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.text.batch import Batch, pad_batch
from hanok.text.chat import ChatSpec
from hanok.text.chat.message import Message
from hanok.text.data.order import Order
from hanok.text.tokenizer import Tokenizer
from hanok.text.trace import Span, Trace

Pair = tuple[Trace, Trace]
Preference = Mapping[str, Sequence[Message]]


def encode_pairs(rows: Sequence[Preference], tokenizer: Tokenizer, chat: ChatSpec, *, length: int) -> list[Pair]:
    """Return the traces of (chosen, rejected) of each row whose two conversations fit `length`."""
    pairs = []
    for row in rows:
        chosen, rejected = (answer_trace(tokenizer, chat, row["prompt"], row[key]) for key in ("chosen", "rejected"))
        if max(len(chosen), len(rejected)) <= length + 1:
            pairs.append((chosen, rejected))
    if not pairs:
        raise UsageError(f"none of the {len(rows)} preference pairs fits {length} tokens: raise length")
    return pairs


def answer_trace(tokenizer: Tokenizer, chat: ChatSpec, prompt: Sequence[Message], answer: Sequence[Message]) -> Trace:
    """Return a conversation in which only the answer counts as the assistant's, earlier turns being context."""
    opening = chat.encode(tokenizer, prompt, generation=True).tokens
    trace = chat.encode(tokenizer, [*prompt, *answer])
    shared = 0
    while shared < min(len(opening), len(trace)) and opening[shared] == trace.tokens[shared]:
        shared += 1
    spans = [
        Span(s.start, s.end, "context" if s.role == "assistant" and s.end <= shared else s.role, s.source)
        for s in trace.spans
    ]
    return Trace(trace.tokens, spans)


class PairStream:
    """Batches of `batch` pairs in a new random order in every epoch; the references are scored once, in advance."""

    def __init__(self, pairs: Sequence[Pair], reference: Tensor, *, batch: int, pad_id: int, seed: int = 0) -> None:
        assert reference.shape == (len(pairs), 2)
        self.pairs, self.reference, self.batch, self.pad_id = pairs, reference, batch, pad_id
        identity = digest([[a.tokens, b.tokens] for a, b in pairs])
        self._order = Order(len(pairs), seed=seed, fingerprint=f"{identity}/{batch}")

    def next_batch(self) -> Batch:
        """Return rows 2i (chosen) and 2i + 1 (rejected) of the next pairs, with the column `reference` (2 * batch,)."""
        chosen = [next(self._order) for _ in range(self.batch)]
        batch = pair_batch([self.pairs[i] for i in chosen], self.pad_id)
        return batch.with_columns(reference=self.reference[chosen].flatten())

    def state(self) -> dict[str, Any]:
        """Return the exact position."""
        return self._order.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a saved position."""
        self._order.restore(state)

    @property
    def epochs(self) -> float:
        """Return how often the data was gone through."""
        return self._order.epoch + self._order.index / self._order.n


def pair_batch(pairs: Sequence[Pair], pad_id: int) -> Batch:
    """Lay pairs in neighbouring rows."""
    return pad_batch([trace for pair in pairs for trace in pair], pad_id, multiple=8)


def score_pairs(model: Model, pairs: Sequence[Pair], pad_id: int, *, batch: int = 32) -> Tensor:
    """Return the log-probs of the answers of each pair under `model` as (N, 2)."""
    parts = [
        row_scores(model, pair_batch(pairs[start : start + batch], pad_id)) for start in range(0, len(pairs), batch)
    ]
    return torch.cat(parts).view(-1, 2)
