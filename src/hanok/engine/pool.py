"""Who holds which page: one page table per sequence, shared by all layers, with reference counts and copy-on-write."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hanok.core.errors import HanokError, UsageError
from hanok.engine.pages import Order, Pages
from hanok.engine.store import Store
from hanok.nn.context import Memory, PerSequence, PerToken


class PoolFull(HanokError):
    """No page is free; the caller gives something up or waits."""


@dataclass(slots=True, eq=False)
class Read:
    """What an encoder read for a sequence, (1,S,D), and what each layer made of it to look at."""

    states: Tensor
    made: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Slot:
    """One sequence's share of a pool: its row, its pages in order, and how many tokens they hold."""

    row: int
    pages: list[int] = field(default_factory=list)
    length: int = 0
    straight: bool = True  # the pages are consecutive, so that their tokens are one plain view
    claim: range = range(0)  # where the next pages should be, for that
    snapshots: dict[int, list[Tensor]] = field(default_factory=dict)
    source: Read | None = None


class Pool:
    """Memory of many sequences of one model: append, fork, truncate, snapshot, dump and restore, for every mixer.

    Pages hold `page_size` tokens of every `PerToken` layer; a row holds the states of every `PerSequence` layer.
    Storage grows by doubling up to `num_pages`. Page 0 is never given out: tables are padded with it and it is zero.
    """

    def __init__(
        self,
        memory: Sequence[Memory],
        num_pages: int,
        *,
        page_size: int = 32,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        order: Order = "linear",
        seed: int = 0,
    ) -> None:
        if num_pages < 1 or page_size < 1:
            raise UsageError(f"a pool needs at least one page of one token, not {num_pages} pages of {page_size}")
        self.num_pages, self.page_size = num_pages, page_size
        self.paged = any(isinstance(spec, PerToken) for spec in memory)
        self.stateful = any(isinstance(spec, PerSequence) for spec in memory)
        self.store = Store(memory, page_size, dtype=dtype, device=torch.device(device))
        self.table: npt.NDArray[np.int64] = np.zeros((0, 1), dtype=np.int64)  # pages by row, padded with page 0
        self._pages = Pages(num_pages, order, seed, self.store.grow_pages)
        self._rows: list[int] = []
        self._slots: dict[int, Slot] = {}

    @property
    def pages_used(self) -> int:
        """Return how many pages some sequence holds."""
        return self._pages.used

    @property
    def pages_free(self) -> int:
        """Return how many pages can still be given out."""
        return self.num_pages - self.pages_used

    def pages_for(self, tokens: int) -> int:
        """Return the pages that a sequence of `tokens` takes."""
        return -(-tokens // self.page_size) if self.paged else 0

    def need(self, slot: Slot, tokens: int) -> int:
        """Return how many free pages appending `tokens` takes, a copy of a shared last page included."""
        new = self.pages_for(slot.length + tokens) - len(slot.pages)
        return new + (1 if tokens and self._shared_tail(slot) else 0)

    def open(self, expect: int = 0) -> Slot:
        """Start an empty sequence, no pages and zero state; room is looked for where `expect` tokens lie together."""
        if not self._rows:
            self._grow_rows()
        slot = Slot(heapq.heappop(self._rows))
        slot.claim = self._pages.claim(self.pages_for(expect))
        self.store.clear_row(slot.row)
        self._slots[slot.row] = slot
        return slot

    def close(self, slot: Slot) -> None:
        """Give everything back."""
        self._own(slot)
        self._drop(slot, 0)
        self._pages.release(slot.claim)
        del self._slots[slot.row]
        heapq.heappush(self._rows, slot.row)
        slot.row, slot.length = -1, 0
        slot.snapshots.clear()
        slot.source = None

    def append(self, slot: Slot, tokens: int) -> None:
        """Lengthen a sequence by `tokens`, whose memory the next forward writes; `PoolFull` changes nothing."""
        self._own(slot)
        need = self.need(slot, tokens)
        if need > self.pages_free:
            raise PoolFull(f"{need} pages are needed and {self.pages_free} of {self.num_pages} are free")
        if need:
            if tokens and self._shared_tail(slot):
                self._copy_tail(slot)
            for _ in range(self.pages_for(slot.length + tokens) - len(slot.pages)):
                self._push(slot, self._pages.take(slot.pages[-1] if slot.pages else 0, slot.claim))
            partial = (slot.length + tokens) % self.page_size != 0
            if partial and slot.length <= (len(slot.pages) - 1) * self.page_size:
                self.store.clear_page(slot.pages[-1])
        slot.length += tokens

    def fork(self, slot: Slot) -> Slot:
        """Return a second sequence with the same past; pages are shared until one of the two writes."""
        self._own(slot)
        twin = self.open()
        for page in slot.pages:
            self._pages.share(page)
            self._push(twin, page)
        self.store.copy_row(slot.row, twin.row)
        twin.length, twin.snapshots, twin.source = slot.length, dict(slot.snapshots), slot.source
        return twin

    def snapshot(self, slot: Slot) -> int:
        """Remember the state at the present length, so that `truncate` can come back to it; return that length."""
        self._own(slot)
        if self.stateful:
            slot.snapshots[slot.length] = self.store.take_row(slot.row)
        return slot.length

    def truncate(self, slot: Slot, length: int) -> None:
        """Forget every token from `length` on; a recurrent state can only go back to 0 or to a snapshot."""
        self._own(slot)
        if not 0 <= length <= slot.length:
            raise UsageError(f"cannot truncate a sequence of {slot.length} tokens to {length}")
        if length == slot.length:
            return
        if self.stateful and length:
            if length not in slot.snapshots:
                known = sorted(slot.snapshots) or "none"
                raise UsageError(f"no snapshot of the recurrent state at {length} tokens (known: {known}); recompute")
            self.store.put_row(slot.row, slot.snapshots[length])
        elif self.stateful:
            self.store.clear_row(slot.row)
        slot.snapshots = {at: state for at, state in slot.snapshots.items() if at <= length}
        self._drop(slot, self.pages_for(length))
        slot.length = length

    def dump(self, slot: Slot) -> dict[str, Tensor]:
        """Return a sequence's whole memory as CPU tensors (`safetensors` takes them), free of page numbers."""
        self._own(slot)
        length = torch.tensor(slot.length)
        source = {} if slot.source is None else {"source": slot.source.states.cpu()}
        return {"length": length, **source, **self.store.dump(self._where(slot), slot.row)}

    def restore(self, tensors: dict[str, Tensor]) -> Slot:
        """Return a new sequence with the memory that `dump` returned."""
        slot = self.open()
        try:
            self.append(slot, int(tensors["length"]))
            memory = {k: v for k, v in tensors.items() if k not in ("length", "source")}
            self.store.load(memory, self._where(slot), slot.row)
            if "source" in tensors:
                slot.source = Read(tensors["source"].to(self.store.device))
        except BaseException:
            self.close(slot)
            raise
        return slot

    def check(self) -> None:
        """Raise `AssertionError` unless every page is free or held, counts match, and tables say the same."""
        held = Counter(page for slot in self._slots.values() for page in slot.pages)
        self._pages.check(held, [slot.claim for slot in self._slots.values()])
        assert sorted([*self._rows, *self._slots]) == list(range(len(self.table))), "a row was lost"
        for row in range(len(self.table)):
            pages = self._slots[row].pages if row in self._slots else []
            assert self.table[row, : len(pages)].tolist() == pages, f"the table of row {row} is wrong"
            assert not self.table[row, len(pages) :].any(), f"the table of row {row} is not padded with page 0"
        for row, slot in self._slots.items():
            assert slot.row == row and len(slot.pages) == self.pages_for(slot.length), f"row {row} has the wrong length"
            assert slot.straight == (np.diff(slot.pages) == 1).all() or not slot.straight, f"row {row} is not straight"
        assert all(not bool(k[:, : self.page_size].any()) for k in self.store.k.values()), "the zero page was written"

    def _own(self, slot: Slot) -> None:
        assert self._slots.get(slot.row) is slot, "this sequence was closed, or belongs to another pool"

    def _where(self, slot: Slot) -> Tensor:
        at = np.arange(slot.length if self.paged else 0)
        pages = np.asarray(slot.pages, dtype=np.int64)
        where = pages[at // self.page_size] * self.page_size + at % self.page_size
        return torch.from_numpy(where).to(self.store.device)

    def _shared_tail(self, slot: Slot) -> bool:
        return slot.length % self.page_size != 0 and bool(slot.pages) and bool(self._pages.counts[slot.pages[-1]] > 1)

    def _copy_tail(self, slot: Slot) -> None:
        page = self._pages.take(0, range(0))
        shared = slot.pages.pop()
        self.store.copy_page(shared, page)
        self._pages.give(shared)
        self._push(slot, page)

    def _push(self, slot: Slot, page: int) -> None:
        at = len(slot.pages)
        if at >= self.table.shape[1]:
            self.table = np.pad(self.table, ((0, 0), (0, self.table.shape[1])))
        slot.straight = slot.straight and (not at or page == slot.pages[-1] + 1)
        slot.pages.append(page)
        self.table[slot.row, at] = page

    def _drop(self, slot: Slot, keep: int) -> None:
        for page in slot.pages[keep:]:
            self._pages.give(page)
        del slot.pages[keep:]
        self.table[slot.row, keep:] = 0
        slot.straight = slot.straight or len(slot.pages) < 2

    def _grow_rows(self) -> None:
        old = len(self.table)
        new = max(8, 2 * old)
        self.store.grow_rows(new)
        self.table = np.pad(self.table, ((0, new - old), (0, 0)))
        self._rows += range(old, new)
