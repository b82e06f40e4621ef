"""A small model guesses one token after the other: what the draft model and the early exit have in common."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Ordered

import torch
from torch import Tensor

from hanok.engine.accept import coin
from hanok.engine.choose import invert, narrow
from hanok.engine.layout import Row
from hanok.engine.paged import Paged
from hanok.engine.pool import Pool, Slot
from hanok.engine.processor import Place, process
from hanok.engine.sequence import Sequence
from hanok.engine.speculative import NOTHING, Draft


class Chain:
    """What computes states (1,T,dim) over a pool and logits of them, and draws guesses from these.

    Guesses are the most likely tokens after the request's processors. `drawn` says that requests with a temperature
    get guesses drawn from the processed and narrowed distribution instead, which is kept for the rule that checks them.
    """

    def __init__(
        self,
        hidden: Callable[[list[int], Paged], Tensor],
        logits: Callable[[Tensor], Tensor],
        pool: Pool,
        *,
        drawn: bool,
    ) -> None:
        self._hidden, self._logits, self.pool, self._drawn = hidden, logits, pool, drawn

    def read(self, slots: Ordered[Slot], parts: Ordered[Ordered[int]]) -> Tensor:
        """Append tokens to slots and return the states (N,dim) of the last one of each."""
        rows = []
        for slot, part in zip(slots, parts, strict=True):
            self.pool.append(slot, len(part))
            rows.append(Row(slot, slot.length - len(part), len(part)))
        ids = [id for part in parts for id in part]
        ends = torch.tensor([len(part) for part in parts], device=self.pool.store.device).cumsum(0) - 1
        return self._hidden(ids, Paged(self.pool, rows))[0].index_select(0, ends)

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
            states = self.read([slots[i] for i in active], reading)
            if not tokens[active[0]]:
                known()
            places = [Place(sequences[i], tuple(tokens[i])) for i in active]
            picked, q_NV = self._pick(self._logits(states), places)
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

    def _pick(self, logits_NV: Tensor, places: Ordered[Place]) -> tuple[list[int | None], Tensor | None]:
        """Return a guess for each place, None where there is no sound one, and the distributions of drawn ones."""
        logits = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
        processed = process(logits, places)
        picked: list[int | None] = processed.argmax(-1).tolist()
        sound = processed.amax(-1).isfinite().tolist()
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
