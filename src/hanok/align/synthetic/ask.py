"""How methods and models meet: what is asked, what comes back, and the rows that are made of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

Row = dict[str, Any]


@dataclass(frozen=True)
class Ask:
    """One question to the model, as chat messages; temperature 0 is greedy, None what the run's setting says."""

    messages: list[dict[str, str]]
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Reply:
    """What the model said, and whether it ended by itself."""

    text: str
    finished: bool = True


@dataclass(frozen=True)
class Draft:
    """A row that has yet to be judged.

    `key` is the text that must be new, None where only an exact copy counts as old. `finished` is whether the model
    ended by itself. `fault` is the method's own reason against the row.
    """

    row: Row
    key: str | None = None
    parents: tuple[str, ...] = ()
    finished: bool = True
    fault: str | None = None


@dataclass(frozen=True)
class Pool:
    """What a method draws from: the user's rows, the rows kept in earlier rounds, and whether a text would be new."""

    seeds: Sequence[Row]
    rows: Sequence[Row] = ()
    new: Callable[[str], bool] = field(default=lambda text: True)


Writing = Generator[list[Ask], list[Reply], list[Draft]]


class Writer(Protocol):
    """A model that answers, in process or over a network; `name` says which, for the rows it wrote."""

    @property
    def name(self) -> str:
        """Return the name that stands with the rows."""
        ...

    def __call__(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply]]:
        """Yield (place among the asks, reply) as they come, in any order, each place once."""
        ...


class Method(Protocol):
    """A way to make rows: a conversation with the model that can be replayed.

    `write` yields lists of asks, is sent their replies, and returns drafts. It may look at nothing but its arguments
    and the replies, so that a run that was killed can be brought back to where it stood. `makes` is the kind of its
    rows: `conversations` (prompt, completion) or `text`.
    """

    makes: str

    def seed(self, row: Row, where: str) -> Row:
        """Return a user's row in the form that `write` reads, or raise `UsageError`."""
        ...

    def turns(self, seeds: int) -> int | None:
        """Return how many turns there are for this many seeds, None without an end."""
        ...

    def write(self, turn: int, rng: Random, pool: Pool) -> Writing:
        """Make the rows of one turn."""
        ...


def ask(text: str, **options: Any) -> Ask:
    """Return a question of one user message."""
    return Ask([{"role": "user", "content": text}], **options)
