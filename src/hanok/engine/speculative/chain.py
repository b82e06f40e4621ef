"""A small model guesses one token after the other: what the draft model and the early exit have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Ordered
from itertools import accumulate

import torch
from torch import Tensor

from hanok.engine.accept import coin
from hanok.engine.choose import Ranked, invert, narrow
from hanok.engine.layout import Row
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool, Slot
from hanok.engine.processor import Place, process
from hanok.engine.sequence import Sequence
from hanok.engine.speculative import NOTHING, Draft
from hanok.ops.largest import largest

Compute = Callable[[list[int], Paged, list[int]], Ranked | None]


class Chain:
    """What reads tokens into a pool and scores what follows some of them, and draws guesses from these.

    `compute(ids, ctx, ends)` returns the logits behind the tokens at `ends`, None where there are no ends.

    Guesses are the most likely tokens after the request's processors. `drawn` says that requests with a temperature
    get guesses drawn from the processed and narrowed distribution instead, which is kept for the rule that checks them.
    """

    def __init__(self, compute: Compute, pool: Pool, *, drawn: bool) -> None:
        self._compute, self.pool, self._drawn = compute, pool, drawn

    def read(self, slots: Ordered[Slot], parts: Ordered[Ordered[int]]) -> None:
        """Append tokens to slots."""
        self._append(slots, parts, [])

    def _append(self, slots: Ordered[Slot], parts: Ordered[Ordered[int]], ends: list[int]) -> Ranked | None:
        rows = []
        for slot, part in zip(slots, parts, strict=True):
            self.pool.append(slot, len(part))
            rows.append(Row(slot, slot.length - len(part), len(part)))
        return self._compute([id for part in parts for id in part], Paged(self.pool, rows), ends)

    def guess(
        self,
        sequences: Ordered[Sequence],
        slots: Ordered[Slot],
        parts: Ordered[Ordered[int]],
        counts: Ordered[int],
        known: Callable[[], None],
    ) -> list[Draft]:
        """Read each sequence's part and return `counts` guesses (one at least); `known` is called behind the parts.

        The last guess is not read. A sequence whose logits are no numbers gets no more guesses.
        """
        tokens: list[list[int]] = [[] for _ in sequences]
        counts = list(counts)
        shares: list[list[Tensor]] = [[] for _ in sequences]
        active, reading = list(range(len(sequences))), [list(part) for part in parts]
        while active:
            ends = [end - 1 for end in accumulate(map(len, reading))]
            found = self._append([slots[i] for i in active], reading, ends)
            assert found is not None, "behind every part"
            if not tokens[active[0]]:
                known()
            places = [Place(sequences[i], tuple(tokens[i])) for i in active]
            picked, q_NV = self._pick(found, places)
            for row, i in enumerate(active):
                guess = picked[row]
                if guess is None:
                    counts[i] = 0
                    continue
                tokens[i].append(guess)
                if q_NV is not None and self._draws(sequences[i]):
                    shares[i].append(q_NV[row])
            active = [i for i in active if len(tokens[i]) < counts[i]]
            reading = [tokens[i][-1:] for i in active]
        return [
            Draft(tuple(ids), torch.stack(own) if own else None) if ids else NOTHING
            for ids, own in zip(tokens, shares, strict=True)
        ]

    def _draws(self, sequence: Sequence) -> bool:
        return self._drawn and sequence.request.temperature > 0

    def _pick(self, found: Ranked, places: Ordered[Place]) -> tuple[list[int | None], Tensor | None]:
        """Return a guess for each place, None where there is no sound one, and the distributions of drawn ones."""
        logits, highest, best = found
        processed = process(logits, places)
        if processed is not logits:
            highest, best = largest(processed)
        picked: list[int | None] = best.tolist()
        sound = [math.isfinite(top) for top in highest.tolist()]
        shares: Tensor | None = None
        drawn = [at for at, place in enumerate(places) if sound[at] and self._draws(place.sequence)]
        if drawn:
            rows = torch.tensor(drawn, device=logits.device)
            q = narrow(processed[rows].double(), [places[at].sequence.request for at in drawn]).softmax(-1)
            coins = [[coin(places[at], "draft")] for at in drawn]
            ids = invert(q, torch.tensor(coins, dtype=torch.float64, device=q.device)).tolist()
            shares = q.new_zeros(processed.shape).index_copy_(0, rows, q)
            for at, id in zip(drawn, ids, strict=True):
                picked[at] = id
        return [id if fine else None for id, fine in zip(picked, sound, strict=True)], shares
