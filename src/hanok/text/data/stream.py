"""Streams of training batches from token shards; a saved position gives the very same batches again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hanok.core.config import digest
from hanok.core.errors import UsageError
from hanok.text.batch import Batch
from hanok.text.data.order import check_identity
from hanok.text.data.pack import Packed
from hanok.text.data.permutation import Permutation
from hanok.text.data.rows import Documents, Rows, Windows, row_batch
from hanok.text.data.shard import Shards
from hanok.text.data.shares import Shares

ONLY = "data"  # the name of the source where there is one


class Stream(Protocol):
    """Whatever training reads: batches without end, and a position that can be saved as JSON."""

    def next_batch(self) -> Batch:
        """Return the next batch."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the position before the next batch."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a saved position."""
        ...


@dataclass(frozen=True)
class Part:
    """One source of a mixture: a name and its rows."""

    name: str
    rows: Rows


Plan = Callable[[int | None], Shares]  # the shares of a run of so many rows; None: not known yet


class RowStream:
    """Rows drawn from one source or several in one global order, of which each rank takes its slice of every batch.

    Row g comes from the source that `plan` says; each source goes through its rows in a new random order in every
    pass. All of it is computed from g, so that the position is one number, whatever the number of ranks: `batch` rows
    are one batch of all ranks together, and rank r of n reads the rows from batch * r // n to batch * (r + 1) // n.
    """

    def __init__(self, parts: Sequence[Part], plan: Plan, *, batch: int, seed: int = 0) -> None:
        names = [part.name for part in parts]
        if not parts or len(set(names)) < len(names) or len({part.rows.length for part in parts}) > 1:
            raise UsageError(f"a stream needs sources of different names and one length of rows, not {names}")
        self.parts, self.length, self.batch, self.seed = list(parts), parts[0].rows.length, batch, seed
        self.taken, self.total = 0, None
        self._plan, self._shares = plan, plan(None)
        self._rank, self._size = 0, 1
        self._orders: dict[int, tuple[int, Permutation]] = {}

    total: int | None
    taken: int

    @property
    def shares(self) -> Shares:
        """Return which source gives which row."""
        return self._shares

    def span(self, rows: int) -> None:
        """Say how many rows the whole run takes, which schedules are a share of."""
        self.total, self._shares = rows, self._plan(rows)

    def share(self, rank: int, size: int) -> None:
        """Read only this rank's rows of each batch from now on."""
        check_slice(self.batch, rank, size)
        self._rank, self._size = rank, size

    def next_batch(self) -> Batch:
        """Return this rank's rows of the next batch."""
        first = self.taken
        self.taken += self.batch
        low, high = (self.batch * rank // self._size for rank in (self._rank, self._rank + 1))
        return self.rebuild(range(first + low, first + high))

    def rebuild(self, rows: Iterable[int]) -> Batch:
        """Return any rows of the global order as a batch, exactly as they were or will be trained on."""
        found = [self.locate(row) for row in rows]
        pieces = [self.parts[source].rows.pieces(row) for source, row in found]
        return row_batch(pieces, self.length, segmented=isinstance(self.parts[0].rows, Packed))

    def locate(self, row: int) -> tuple[int, int]:
        """Return the source of a row of the global order, and which row of that source it is."""
        source, index = self._shares.at(row)
        epoch, place = divmod(index, len(self.parts[source].rows))
        return source, self._order(source, epoch)(place)

    def seen_at(self, source: int, row: int, before: int) -> Iterator[int]:
        """Yield where a row of a source stands in the global order, pass by pass, among the first `before` rows."""
        size = len(self.parts[source].rows)
        for epoch in itertools.count():
            index = epoch * size + Permutation(size, seed=self.seed, name=self._name(source, epoch)).find(row)
            if self._shares.row_of(source, epoch * size, before) is None:
                return
            if (found := self._shares.row_of(source, index, before)) is not None:
                yield found

    def state(self) -> dict[str, Any]:
        """Return the exact position, with what it belongs to."""
        return {"rows": self.taken, "total": self.total, **self._identity()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a saved position of the same data, length, batch and seed, saved by any number of ranks."""
        check_identity(state, {"rows": 0, "total": 0, **self._identity()}, free=("rows", "total"))
        if state["total"] is None:
            self.total, self._shares = None, self._plan(None)
        else:
            self.span(int(state["total"]))
        self.taken = int(state["rows"])

    @property
    def passes(self) -> dict[str, float]:
        """Return how often each source was gone through."""
        counts = self._shares.counts(self.taken)
        return {part.name: n / len(part.rows) for part, n in zip(self.parts, counts, strict=True)}

    @property
    def epochs(self) -> float:
        """Return how many rows were taken, in passes over all the data."""
        return self.taken / sum(len(part.rows) for part in self.parts)

    def fingerprint(self) -> str:
        """Return what identifies the rows and their order, but for the schedule's length."""
        return digest(self._identity())

    def _identity(self) -> dict[str, Any]:
        parts = [[part.name, len(part.rows), part.rows.fingerprint] for part in self.parts]
        return {"batch": self.batch, "length": self.length, "seed": self.seed, "fingerprint": digest(parts)}

    def _order(self, source: int, epoch: int) -> Permutation:
        held = self._orders.get(source)
        if held is None or held[0] != epoch:
            name = self._name(source, epoch)
            held = epoch, Permutation(len(self.parts[source].rows), seed=self.seed, name=name)
            self._orders[source] = held
        return held[1]

    def _name(self, source: int, epoch: int) -> str:
        return f"{self.parts[source].name} epoch {epoch}"


class TokenStream(RowStream):
    """The rows of one set of token shards: windows over all its tokens, or whole documents `packed` into rows."""

    def __init__(
        self, shards: Shards | str | Path, *, length: int, batch: int, seed: int = 0, packed: bool = False
    ) -> None:
        self.shards = shards if isinstance(shards, Shards) else Shards(shards)
        documents = Documents(self.shards)
        rows = Packed(documents, length) if packed else Windows(documents, length)
        super().__init__([Part(ONLY, rows)], lambda _: Shares([(0, [1.0])]), batch=batch, seed=seed)


class Sliced:
    """One rank's rows of each batch of any stream; every rank reads the whole batch and keeps its slice."""

    def __init__(self, stream: Stream, rank: int, size: int) -> None:
        self._stream, self._rank, self._size = stream, rank, size

    def next_batch(self) -> Batch:
        """Return this rank's rows of the next batch."""
        batch = self._stream.next_batch()
        rows = len(batch.tokens)
        check_slice(rows, self._rank, self._size)
        low, high = (rows * rank // self._size for rank in (self._rank, self._rank + 1))
        cut = {
            item.name: value[low:high]
            for item in fields(batch)
            if isinstance(value := getattr(batch, item.name), Tensor)
        }
        return replace(batch, **cut, columns={name: value[low:high] for name, value in batch.columns.items()})

    def state(self) -> dict[str, Any]:
        """Return the position, which is the same on every rank."""
        return self._stream.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position saved by any number of ranks."""
        self._stream.restore(state)


def for_rank(stream: Stream, rank: int, size: int) -> Stream:
    """Return the stream of one of `size` ranks that read different data and together read what one would."""
    if size == 1:
        return stream
    if isinstance(stream, RowStream):
        stream.share(rank, size)
        return stream
    return Sliced(stream, rank, size)


def check_slice(rows: int, rank: int, size: int) -> None:
    """Refuse a split that would leave a rank without a row."""
    if not 0 <= rank < size <= rows:
        raise UsageError(f"rank {rank} of {size} cannot take its rows of a batch of {rows}: batch must be >= {size}")


def evaluation_batches(
    shards: Shards | str | Path, *, length: int, batch: int, max_tokens: int | None = None
) -> Iterator[Batch]:
    """Yield windows in order, each token but the first a target exactly once; the last rows are padded, weight 0."""
    shards = shards if isinstance(shards, Shards) else Shards(shards)
    targets = len(shards) - 1 if max_tokens is None else min(len(shards) - 1, max_tokens)
    for first in range(0, targets, length * batch):
        starts = range(first, min(first + length * batch, targets), length)
        rows = np.zeros((len(starts), length + 1), dtype=np.int64)
        sizes = [min(length, targets - start) for start in starts]
        for row, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            rows[row, : size + 1] = shards.read(start, start + size + 1)
        yield window_batch(rows, torch.arange(length)[None] < torch.tensor(sizes)[:, None])


def window_batch(rows: np.ndarray[Any, Any], seen: torch.Tensor | None = None) -> Batch:
    """Return rows of length + 1 tokens as a batch whose targets are the tokens one further."""
    tokens = torch.from_numpy(np.ascontiguousarray(rows[:, :-1]))
    targets = torch.from_numpy(np.ascontiguousarray(rows[:, 1:]))
    positions = torch.arange(tokens.shape[1]).expand_as(tokens).contiguous()
    weights = torch.ones(tokens.shape) if seen is None else seen.float()
    return Batch(tokens, targets, weights, positions)
