"""Which tokens the next step computes: continuous batching, chunked prefill, preemption by recompute."""

from __future__ import annotations

from collections import deque

from hanok.engine.layout import Row
from hanok.engine.pool import Pool, PoolFull
from hanok.engine.sequence import Sequence


class Scheduler:
    """First come, first served, under a budget of tokens per step.

    Every running sequence that decodes gets its token first; what is left of the budget goes to prompts, in chunks.
    Where pages run out, the youngest gives its own back and is computed again later; the oldest always goes on, and
    since each request fits into the pool alone, everyone is the oldest some day.
    """

    def __init__(self, pool: Pool, *, max_batch_tokens: int, max_sequences: int, chunk: int) -> None:
        self.pool = pool
        self.max_batch_tokens, self.max_sequences, self.chunk = max_batch_tokens, max_sequences, chunk
        self.waiting: deque[Sequence] = deque()  # by age, the oldest first
        self.running: list[Sequence] = []  # by age
        self.preemptions = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence behind all older ones."""
        _by_age(self.waiting, sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, wherever it is, and free its memory."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
        else:
            self.running.remove(sequence)
            self._release(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """Send a running sequence back to wait; its tokens stay, its memory is computed again."""
        self.running.remove(sequence)
        self._release(sequence)
        self.preemptions += 1
        _by_age(self.waiting, sequence)

    def plan(self) -> dict[Sequence, Row]:
        """Return the rows of the next step, with their memory already appended; empty when nothing can run."""
        rows: dict[Sequence, Row] = {}
        before, budget = self.preemptions, self.max_batch_tokens
        decoding = [sequence for sequence in self.running if sequence.left == 1]
        reading = [sequence for sequence in self.running if sequence.left > 1]
        for sequence in decoding + reading:
            if budget <= 0:
                break
            if sequence.slot is not None:  # None: preempted for an older one in this loop
                budget += self._place(sequence, budget, rows)
        if self.preemptions == before:
            self._admit(budget, rows)
        return rows

    def _place(self, sequence: Sequence, budget: int, rows: dict[Sequence, Row]) -> int:
        """Give a sequence its part of the step, if need be with the youngest's pages; return the budget's change."""
        slot, length = sequence.slot, min(sequence.left, self.chunk, budget)
        assert slot is not None
        change = 0
        while True:
            try:
                self.pool.append(slot, length)
            except PoolFull:
                youngest = self.running[-1]
                self.preempt(youngest)
                if youngest in rows:
                    change += rows.pop(youngest).length
                if youngest is sequence:
                    return change
            else:
                rows[sequence] = Row(slot, slot.length - length, length)
                return change - length

    def _admit(self, budget: int, rows: dict[Sequence, Row]) -> None:
        """Start waiting sequences, in their order, while the whole of what they must read surely has pages."""
        if not self.waiting or budget <= 0:
            return
        pool = self.pool
        promised = sum(pool.pages_for(len(s.tokens)) - len(s.slot.pages) for s in self.running if s.slot)
        while self.waiting and budget > 0 and len(self.running) < self.max_sequences:
            sequence = self.waiting[0]
            pages = pool.pages_for(len(sequence.tokens))
            if pages + promised > pool.pages_free:
                return
            self.waiting.popleft()
            sequence.slot = pool.open(sequence.last - 1)
            _by_age(self.running, sequence)
            budget += self._place(sequence, budget, rows)
            promised += pages - len(sequence.slot.pages)

    def _release(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self.pool.close(sequence.slot)
        sequence.slot = None


def _by_age(queue: deque[Sequence] | list[Sequence], sequence: Sequence) -> None:
    at = len(queue)
    while at and queue[at - 1].id > sequence.id:
        at -= 1
    queue.insert(at, sequence)
