"""A stream of packed conversations for fine-tuning, each its own segment, learned where the assistant writes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from hanok.core.errors import UsageError
from hanok.text.batch import Batch, pack_rows
from hanok.text.chat import ChatSpec
from hanok.text.chat.message import Message
from hanok.text.data.order import Order
from hanok.text.tokenizer import Tokenizer
from hanok.text.trace import Span, Trace


class ChatStream:
    """Rows of whole conversations in a new random order in every epoch; a row is closed when the next does not fit.

    A conversation of more than `length` + 1 tokens is cut there; `truncated` counts them, `dropped` those in which the
    assistant then has no word left.
    """

    def __init__(
        self,
        conversations: Sequence[Sequence[Message]],
        tokenizer: Tokenizer,
        chat: ChatSpec,
        *,
        length: int,
        batch: int,
        seed: int = 0,
        role: str = "assistant",
    ) -> None:
        self.length, self.batch, self.role = length, batch, role
        self._pad_id = tokenizer.pad_id if tokenizer.pad_id is not None else 0  # its weight is 0, so any id serves
        whole = [chat.encode(tokenizer, messages) for messages in conversations]
        cut = [_cut(trace, length + 1) for trace in whole]
        self.traces = [trace for trace in cut if any(trace.mask(role)[1:])]
        self.truncated = sum(len(trace) > length + 1 for trace in whole)
        self.dropped = len(whole) - len(self.traces)
        if not self.traces:
            raise UsageError(f"no conversation has a word of the {role} within {length} tokens")
        digest = hashlib.sha256(repr([trace.tokens for trace in self.traces]).encode()).hexdigest()
        self._order = Order(len(self.traces), seed=seed, fingerprint=f"{digest}/{length}/{batch}")

    def next_batch(self) -> Batch:
        """Return `batch` packed rows."""
        rows = [self._row() for _ in range(self.batch)]
        return pack_rows(rows, self.length, pad_id=self._pad_id, role=self.role)

    def state(self) -> dict[str, Any]:
        """Return the exact position."""
        return self._order.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a saved position of the same data, length, batch and seed."""
        self._order.restore(state)

    @property
    def epochs(self) -> float:
        """Return how often the data was gone through."""
        return self._order.epoch + self._order.index / self._order.n

    def _row(self) -> list[Trace]:
        row, room = [], self.length
        while (need := len(self.traces[self._order.peek()]) - 1) <= room:
            row.append(self.traces[next(self._order)])
            room -= need
        return row


def _cut(trace: Trace, size: int) -> Trace:
    if len(trace) <= size:
        return trace
    spans = [Span(s.start, min(s.end, size), s.role, s.source) for s in trace.spans if s.start < size]
    return Trace(trace.tokens[:size], spans, None if trace.logprobs is None else trace.logprobs[:size])
