"""Proposers: each guesses tokens that the model then checks in one step, instead of drawing them one step at a time.

A wrong guess costs time and never changes what is drawn: see `engine.accept`.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch import Tensor

from hanok.core.registry import Registry

if TYPE_CHECKING:
    from hanok.engine.layout import Row
    from hanok.engine.pool import Pool
    from hanok.engine.prepare import Served
    from hanok.engine.sequence import Sequence
    from hanok.model.model import Model
    from hanok.nn.context import Memory


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """Tokens that are guessed to come next, and from which distributions they were drawn (k,V) float64.

    None in `shares` says that nothing was drawn: the guesses follow from the text alone, a point mass each.
    """

    tokens: tuple[int, ...] = ()
    shares: Tensor | None = None

    def rest(self, used: int) -> Draft:
        """Return what is left behind the first `used` tokens."""
        return Draft(self.tokens[used:], None if self.shares is None else self.shares[used:])


NOTHING = Draft()


class Reading(NamedTuple):
    """What the model read in one step: sequences, their rows laid end to end, and its last states (T,dim)."""

    sequences: Ordered[Sequence]
    rows: Ordered[Row]
    hidden_TD: Tensor


class Target(NamedTuple):
    """The model whose tokens are guessed, the pool that it is served from, and how much runs at once."""

    llm: Served
    pool: Pool
    max_sequences: int
    chunk: int


class Proposer(Protocol):
    """Guesses the next tokens of running sequences; a class with a `Config`, built from one and a `Target`."""

    @staticmethod
    def memory(model: Model) -> list[Memory]:
        """Return what the target's pool must keep for it, behind the model's own layers."""
        ...

    def observe(self, reading: Reading) -> None:
        """See what the model has read; tokens are drawn by now, and guesses that failed are still in the pool."""
        ...

    def propose(self, sequences: Ordered[Sequence]) -> list[Draft]:
        """Return guesses, never more than `room`, for sequences whose memory ends where their known tokens do."""
        ...

    def sweep(self) -> None:
        """Let go of what is held for sequences that run no more (their slot is gone)."""
        ...


PROPOSERS: Registry[Any] = Registry("proposer", __name__)


def room(sequence: Sequence, tokens: int) -> int:
    """Return how many tokens may be guessed: the model itself draws one behind them, and the last one is its own."""
    return max(0, min(tokens, sequence.last - len(sequence.tokens) - 1))
