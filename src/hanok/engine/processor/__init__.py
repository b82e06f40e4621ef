"""Processors: what a request's own text so far does to its next logits, before temperature and filters see them.

They act in the order of their numbers (`order`), each on what the one before left, and only on rows that want them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence as Ordered
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from hanok.core.registry import Registry
from hanok.engine.sequence import Sequence
from hanok.engine.tally import Tally


class Place(NamedTuple):
    """Where a row of logits stands: behind a sequence's tokens, and behind tokens that are only guessed so far."""

    sequence: Sequence
    drafted: tuple[int, ...] = ()

    @property
    def generated(self) -> list[int]:
        """Return what was drawn before this place, guesses included."""
        return [*self.sequence.tokens[self.sequence.prompt :], *self.drafted]

    @property
    def drawn(self) -> int:
        """Return how many tokens were drawn before this place, guesses included."""
        return self.sequence.generated + len(self.drafted)

    def tail(self, count: int) -> list[int]:
        """Return the last `count` tokens before this place (fewer if there are fewer), prompt and guesses included."""
        short = max(0, count - len(self.drafted))
        return [*(self.sequence.tokens[-short:] if short else ()), *(self.drafted[-count:] if count else ())]


class Processor(Protocol):
    """A change of logits (N,V), float32 or float64, one row for each place; forbidden tokens become -inf.

    `wanted` says, once for each sequence, whether its request turns the processor on.
    """

    order: ClassVar[int]

    @staticmethod
    def wanted(sequence: Sequence) -> bool: ...

    @staticmethod
    def apply(logits_NV: Tensor, places: Ordered[Place]) -> Tensor: ...


PROCESSORS: Registry[type[Processor]] = Registry("processor", __name__)
CHAIN, GENERATED = "processors", "generated"  # what processors keep in a sequence's memo


def process(logits_NV: Tensor, places: Ordered[Place]) -> Tensor:
    """Pass each row through the processors that its request turns on; the given tensor stays as it is."""
    chains = [_chain(place.sequence) for place in places]
    for processor in sorted({part for chain in chains for part in chain}, key=lambda part: part.order):
        active = [at for at, chain in enumerate(chains) if processor in chain]
        if len(active) == len(places):
            logits_NV = processor.apply(logits_NV, places)
        else:
            rows = torch.tensor(active, device=logits_NV.device)
            changed = processor.apply(logits_NV[rows], [places[at] for at in active])
            logits_NV = logits_NV.index_copy(0, rows, changed)
    return logits_NV


def occurrences(places: Ordered[Place], key: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, id and count of every token that occurs before each place, as three flat arrays on the CPU.

    `key` "generated" counts what was drawn; any other key names a tally of its own, of the prompt as well.
    """
    rows, ids, counts = [], [], []
    for row, (sequence, drafted) in enumerate(places):
        tally = sequence.memo.setdefault(key, Tally())
        found, often = tally.read(sequence.tokens, sequence.prompt if key == GENERATED else 0, drafted)
        rows.append(np.full(len(found), row))
        ids.append(found)
        counts.append(often)
    return tuple(torch.from_numpy(np.concatenate(part)) for part in (rows, ids, counts))  # type: ignore[return-value]


def subtract(logits_NV: Tensor, places: Ordered[Place], strengths: Ordered[float], *, each: bool) -> Tensor:
    """Take from every generated token's logit its row's strength, once (or `each` time that it occurs)."""
    rows, ids, counts = occurrences(places, GENERATED)
    amount = torch.tensor(strengths, dtype=torch.float64)[rows] * (counts if each else 1)
    where = (rows.to(logits_NV.device), ids.to(logits_NV.device))
    return logits_NV.index_put(where, -amount.to(logits_NV), accumulate=True)


def forbid(logits_NV: Tensor, pairs: Ordered[tuple[int, int]]) -> Tensor:
    """Set (row, token) pairs to -inf; a row that would have nothing left (a grammar may allow no other) stays."""
    if not pairs:
        return logits_NV
    rows, ids = torch.tensor(pairs, device=logits_NV.device).unbind(1)
    changed = logits_NV.index_put((rows, ids), logits_NV.new_tensor(-torch.inf))
    empty = changed.amax(-1, keepdim=True) == -torch.inf
    return torch.where(empty, logits_NV, changed) if bool(empty.any()) else changed


def _chain(sequence: Sequence) -> tuple[type[Processor], ...]:
    chain: tuple[type[Processor], ...] | None = sequence.memo.get(CHAIN)
    if chain is None:
        chain = sequence.memo[CHAIN] = tuple(part for part in _all() if part.wanted(sequence))
    return chain


@functools.cache
def _all() -> tuple[type[Processor], ...]:
    return tuple(PROCESSORS[name] for name in PROCESSORS)
