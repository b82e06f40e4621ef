"""Which tokens the next step computes: continuous batching, chunked prefill, shared beginnings, preemption."""

from __future__ import annotations

import time
from bisect import insort

from hanok.engine.layout import Row
from hanok.engine.pool import Pool, PoolFull, Slot
from hanok.engine.prefix import Match, PrefixCache
from hanok.engine.sequence import Sequence

AGEING = 256  # steps of waiting that outweigh one level of priority


class Scheduler:
    """First come, first served within a priority, under a budget of tokens per step.

    A request of priority p (lower is sooner) takes its turn as if it had come p * AGEING steps later: a priority counts
    for a bounded time. Of those that one client has waiting (a `group`) one starts at a time, and the others then stand
    as if they had come just now: who asks for much takes turns with whoever asks for little. A turn is put off by no
    more requests than were in front of it, and so nobody waits for ever. Every running sequence that decodes gets
    its token first; what is left of the budget goes to prompts, in chunks. Where pages run out, the last in turn gives
    its own back and is computed again later, as far as the prefix cache has not kept it; the first always goes on, and
    since each request fits into the pool alone, everyone is the first some day.
    """

    def __init__(
        self, pool: Pool, *, max_batch_tokens: int, max_sequences: int, chunk: int, prefix: PrefixCache | None = None
    ) -> None:
        self.pool, self.prefix = pool, prefix
        self.max_batch_tokens, self.max_sequences, self.chunk = max_batch_tokens, max_sequences, chunk
        self.waiting: list[Sequence] = []  # by turn
        self.running: list[Sequence] = []  # by turn
        self.preemptions = self.steps = 0
        self.queried = self.found = 0  # prompt tokens that were looked up in the prefix cache, and found there

    @property
    def capacity(self) -> int | None:
        """Return how many tokens a sequence may have so as to fit into the pool alone; None if any number does."""
        pool = self.pool
        if not pool.paged or (pool.window is not None and pool.span(1 << 62, self.chunk) <= pool.num_pages):
            return None
        return pool.num_pages * pool.page_size

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence behind all whose turn is sooner."""
        sequence.turn = (self.steps + sequence.request.priority * AGEING, sequence.id)
        insort(self.waiting, sequence, key=_turn)

    def remove(self, sequence: Sequence, *, done: bool = False, failed: bool = False) -> None:
        """Forget a sequence, wherever it is, and free its memory; `done`: all of it was computed as planned."""
        if self.prefix is not None and failed:
            self.prefix.distrust(sequence)
        if sequence.slot is None:
            self.waiting.remove(sequence)
        else:
            self.running.remove(sequence)
            if self.prefix is not None and done:
                self.prefix.record(sequence)
            self._release(sequence)
        if self.prefix is not None:
            self.prefix.leave(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """Send a running sequence back to wait; its tokens stay, its memory is found or computed again."""
        self.running.remove(sequence)
        self._release(sequence)
        self.preemptions += 1
        insort(self.waiting, sequence, key=_turn)

    def plan(self) -> dict[Sequence, Row]:
        """Return the rows of the next step, with their memory already appended; empty when nothing can run."""
        self.steps += 1
        for sequence in self.running:  # whatever they have memory of was computed in earlier steps
            assert sequence.slot is not None
            if self.prefix is not None:
                self.prefix.record(sequence)
            self.pool.slide(sequence.slot)
        rows: dict[Sequence, Row] = {}
        before, budget = self.preemptions, self.max_batch_tokens
        decoding = [sequence for sequence in self.running if sequence.left == 1]
        reading = [sequence for sequence in self.running if sequence.left > 1]
        for sequence in decoding + reading:
            if budget <= 0:
                break
            if sequence.slot is not None:  # None: preempted for an earlier one in this loop
                budget += self._place(sequence, budget, rows)
        if self.preemptions == before:
            self._admit(budget, rows)
        return rows

    def _place(self, sequence: Sequence, budget: int, rows: dict[Sequence, Row]) -> int:
        """Give a sequence its part of the step, if need be with the last one's pages; return the budget's change."""
        slot, length = sequence.slot, min(sequence.left, self.chunk, budget)
        assert slot is not None
        if self.prefix is not None:
            length = self.prefix.cut(sequence, length)
        if sequence.draft.tokens and length == sequence.left:
            length += self._guesses(sequence, slot, budget - length)
        change = 0
        while True:
            try:
                self.pool.append(slot, length)
            except PoolFull:
                last = self.running[-1]
                change += self._withdraw(last, rows)
                if last is sequence:
                    return change
            else:
                rows[sequence] = Row(slot, slot.length - length, length)
                return change - length

    def _guesses(self, sequence: Sequence, slot: Slot, budget: int) -> int:
        """Return how many guesses are read behind a sequence's own tokens: what nobody else needs, of tokens and pages.

        A recurrent state that has tokens to read again reads these alone first, so that it can be kept there.
        """
        if self.pool.stateful and sequence.left > 1:
            return 0
        count = max(0, min(len(sequence.draft.tokens), budget - len(self.running)))
        more = self.pool.need(slot, sequence.left + count) - self.pool.need(slot, sequence.left)
        return count if more <= max(0, self.pool.pages_free - len(self.running)) else 0

    def _admit(self, budget: int, rows: dict[Sequence, Row]) -> None:
        """Start waiting sequences, in their order, while the whole of what they must read surely has pages."""
        coming = self._coming(rows) if self.waiting else {}
        at = 0
        while at < len(self.waiting) and budget > 0:
            sequence = self.waiting[at]
            match = Match() if self.prefix is None else self.prefix.match(sequence)
            if self._worth_waiting(sequence, match, coming):
                at += 1
                continue
            outranked = self._outranked(sequence, match)
            if outranked is None:
                return
            for other in outranked:
                budget += self._withdraw(other, rows)
            self.waiting.remove(sequence)
            self._start(sequence, match)
            self._put_off(sequence)
            budget += self._place(sequence, budget, rows)
            if self.prefix is not None and sequence in rows:
                row = rows[sequence]
                coming |= dict.fromkeys(
                    self.prefix.coming(sequence, row.start, row.start + row.length), _turn(sequence)
                )

    def _start(self, sequence: Sequence, match: Match) -> None:
        if self.prefix is None:
            sequence.slot = self.pool.open(sequence.last - 1)
        else:
            sequence.slot = self.prefix.open(sequence, match)
        if sequence.began is None:  # rather than going on after a preemption
            sequence.began, sequence.cached = time.monotonic(), match.length
            if self.prefix is not None:
                self.queried += sequence.prompt
                self.found += match.length
        insort(self.running, sequence, key=_turn)

    def _put_off(self, started: Sequence) -> None:
        """Let the others of a client that has had its turn stand behind all who have come by now."""
        if started.group is None:
            return
        now = self.steps + 1 + min(0, started.request.priority) * AGEING
        others = [other for other in self.waiting if other.group == started.group and other.began is None]
        for other in others:
            other.turn = (max(other.turn[0], now), other.id)
        if others:
            self.waiting.sort(key=_turn)

    def _coming(self, rows: dict[Sequence, Row]) -> dict[bytes, tuple[int, int]]:
        """Return what this step brings to the prefix cache, and whose turn brings it."""
        if self.prefix is None:
            return {}
        found: dict[bytes, tuple[int, int]] = {}
        for sequence, row in rows.items():
            keys = self.prefix.coming(sequence, row.start, min(row.start + row.length, len(sequence.tokens)))
            found |= dict.fromkeys(keys, _turn(sequence))
        return found

    def _worth_waiting(self, sequence: Sequence, match: Match, coming: dict[bytes, tuple[int, int]]) -> bool:
        """Say whether someone sooner is just computing what this one would compute next, too."""
        if self.prefix is None or not coming or not self.prefix.reads(sequence):
            return False
        size = self.pool.page_size
        count = (len(sequence.tokens) - 1) // size
        keys = self.prefix.keys(sequence, count)[match.length // size : count]
        return any(coming.get(key, _turn(sequence)) < _turn(sequence) for key in keys)

    def _outranked(self, sequence: Sequence, match: Match) -> list[Sequence] | None:
        """Return who must give way so that a sequence can start: nobody, some of lower priority, or None: it waits."""
        pool, rest, out = self.pool, list(self.running), []
        need = max(0, pool.span(len(sequence.tokens), self.chunk) - sum(page > 0 for page in match.pages))
        free = pool.pages_free - need - sum(page > 0 and not pool.held(page) for page in match.pages)
        promised = [self._growth(other) for other in rest]
        while len(rest) >= self.max_sequences or sum(promised) > free:
            if not rest or rest[-1].request.priority <= sequence.request.priority or _turn(rest[-1]) < _turn(sequence):
                return None
            promised.pop()
            out.append(rest.pop())
            slot = out[-1].slot
            assert slot is not None
            free += sum(pool.held(page) == 1 for page in slot.pages[slot.gone :])
        return out

    def _growth(self, sequence: Sequence) -> int:
        """Return how many more pages a running sequence takes at most for the tokens that it has."""
        slot = sequence.slot
        assert slot is not None
        return max(0, self.pool.span(len(sequence.tokens), self.chunk) - len(slot.pages) + slot.gone)

    def _withdraw(self, sequence: Sequence, rows: dict[Sequence, Row]) -> int:
        """Preempt a sequence that may be part of this step already; return the tokens that this saves."""
        self.preempt(sequence)
        return rows.pop(sequence).length if sequence in rows else 0

    def _release(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self.pool.close(sequence.slot)
        sequence.slot = None


def _turn(sequence: Sequence) -> tuple[int, int]:
    return sequence.turn
