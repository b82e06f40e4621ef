"""Guess, check, take back: what an engine does around its steps when it speculates."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import replace

from torch import Tensor

from hanok.core.config import PartConfig
from hanok.engine.accept import taken
from hanok.engine.layout import Row
from hanok.engine.request import Event, TopLogprobs
from hanok.engine.sequence import Sequence
from hanok.engine.speculative import NOTHING, PROPOSERS, Proposer, Reading, Target


class Speculation:
    """A proposer, and when it is asked.

    A step reads guesses behind what is known, draws at every place, and keeps what follows from a true past; the memory
    of the rest is taken back before the next guesses are made.
    """

    def __init__(self, config: PartConfig, target: Target) -> None:
        self.proposer: Proposer = PROPOSERS[config.kind](config, target)
        self.drafts = self.drafted = self.accepted = 0
        self._pool = target.pool
        self._states: dict[Sequence, list[Tensor]] = {}
        self._free: set[Sequence] = set()  # whose last token in this step was no guess: new ones can begin

    def before(self, sequences: Ordered[Sequence], rows: Ordered[Row]) -> None:
        """Remember the recurrent states of sequences whose guesses are about to be read."""
        self._states.clear()
        self._free.clear()
        if self._pool.stateful:
            store = self._pool.store
            guessing = [(s, row) for s, row in zip(sequences, rows, strict=True) if s.guessed and row.start]
            self._states = {s: store.take_row(row.slot.row) for s, row in guessing}

    def counts(self) -> dict[str, int]:
        """Return the figures of `Stats`."""
        return {"drafts": self.drafts, "drafted_tokens": self.drafted, "accepted_tokens": self.accepted}

    def push(
        self,
        sequence: Sequence,
        tokens: Ordered[int],
        logprobs: Ordered[float | None],
        tops: Ordered[TopLogprobs | None],
    ) -> Event:
        """Pass on the tokens of a sequence's places as far as they are true, or up to its end, as one event."""
        draft, count = sequence.draft, taken(sequence, tokens)
        if not draft.tokens:
            self._free.add(sequence)
            return sequence.push(tokens[0], logprobs[0], tops[0])
        checked = min(len(tokens), len(draft.tokens))
        events: list[Event] = []
        for token, score, top in zip(tokens[:count], logprobs, tops, strict=False):
            events.append(sequence.push(token, score, top))
            if events[-1].output is not None:
                break
        right = sum(a == b for a, b in zip(tokens[: len(events)], draft.tokens, strict=False))
        self.drafts += 1
        self.drafted += checked
        self.accepted += right
        # What was not read this time, for want of room, is checked next time, and behind the last guess comes a token
        # of the model's own even so: how steps are cut makes no difference to what is drawn.
        if right < len(events):
            self._free.add(sequence)
            sequence.draft = NOTHING
        else:
            sequence.draft = draft.rest(right)
        return joined(events)

    def after(self, reading: Reading) -> None:
        """Show the proposer what was read, take failed guesses back, and ask for new ones."""
        self.proposer.observe(reading)
        asking = []
        for sequence, row in zip(reading.sequences, reading.rows, strict=True):
            if sequence.slot is None:
                continue  # it has ended
            if sequence.left < 1:
                self._take_back(sequence, row)
            if sequence in self._free:
                asking.append(sequence)
        drafts = self.proposer.propose(asking) if asking else []
        for sequence, draft in zip(asking, drafts, strict=True):
            sequence.draft = draft
        self._states.clear()
        self.proposer.sweep()

    def _take_back(self, sequence: Sequence, row: Row) -> None:
        """Forget the guesses that failed: a recurrent state goes back to before the step, and reads anew."""
        slot, pool = row.slot, self._pool
        if not pool.stateful:
            pool.truncate(slot, len(sequence.tokens) - 1)
            return
        kept = slot.snapshots.get(row.start)
        if row.start:
            slot.snapshots[row.start] = self._states[sequence]
        pool.truncate(slot, row.start)
        slot.snapshots.pop(row.start, None)
        if kept is not None:
            slot.snapshots[row.start] = kept


def joined(events: list[Event]) -> Event:
    """Return the events of one sequence in one step as one."""
    if len(events) == 1:
        return events[0]
    logprobs = [value for event in events for value in event.logprobs or ()]
    tops = [top for event in events for top in event.top_logprobs or ()]
    return replace(
        events[-1],
        text="".join(event.text for event in events),
        tokens=[token for event in events for token in event.tokens],
        logprobs=None if events[0].logprobs is None else logprobs,
        top_logprobs=None if events[0].top_logprobs is None else tops,
    )
