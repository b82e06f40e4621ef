"""Who holds which page: one page table per sequence, shared by all layers, with reference counts and copy-on-write."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
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
    """One sequence's share of a pool: its row, its pages in order, and how many tokens they hold.

    The memory of the tokens before `first` was given back: no window reaches them any more. Page 0 stands for theirs.
    """

    row: int
    pages: list[int] = field(default_factory=list)
    length: int = 0
    first: int = 0
    gone: int = 0  # how many pages were given back
    straight: bool = True  # the pages are consecutive, so that their tokens are one plain view
    claim: range = range(0)  # where the next pages should be, for that
    snapshots: dict[int, list[Tensor]] = field(default_factory=dict)
    source: Read | None = None

    @property
    def origin(self) -> int:
        """Return where the first page of a straight sequence lies, or would lie had it not been given back."""
        return self.pages[self.gone] - self.gone


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
        self.window = reach(memory)
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
        """Return how many pages can still be given out; those only kept for later sequences are among them."""
        return self.num_pages - self.pages_used

    def pages_for(self, tokens: int) -> int:
        """Return the pages that a sequence of `tokens` takes."""
        return -(-tokens // self.page_size) if self.paged else 0

    def span(self, tokens: int, step: int) -> int:
        """Return the most pages that a sequence of `tokens` ever holds if it slides and reads up to `step` at once."""
        return span(self.store.memory, self.page_size, tokens, step)

    def need(self, slot: Slot, tokens: int) -> int:
        """Return how many free pages appending `tokens` takes, a copy of a shared last page included."""
        new = self.pages_for(slot.length + tokens) - len(slot.pages)
        return new + (1 if tokens and self._shared_tail(slot) else 0)

    def open(self, expect: int = 0, past: Sequence[int] = ()) -> Slot:
        """Start a sequence, of zero state; room is looked for where `expect` tokens lie together.

        It begins with the tokens of the full pages `past`, which it shares; page 0 stands for what no window reaches.
        """
        if not self._rows:
            self._grow_rows()
        slot = Slot(heapq.heappop(self._rows))
        # Of a sequence that slides, a few windows: it comes round to the beginning of its claim again.
        room = self.pages_for(expect) if self.window is None else self.span(expect, 2 * self.window)
        slot.claim = self._pages.claim(room - len(past), past[-1] if past else 0)
        self.store.clear_row(slot.row)
        self._slots[slot.row] = slot
        self._share(slot, past)
        slot.length, slot.first = len(past) * self.page_size, slot.gone * self.page_size
        return slot

    def close(self, slot: Slot) -> None:
        """Give everything back."""
        self._own(slot)
        self._drop(slot, 0)
        self._pages.release(slot.claim)
        del self._slots[slot.row]
        heapq.heappush(self._rows, slot.row)
        slot.row, slot.length, slot.first = -1, 0, 0
        slot.snapshots.clear()
        slot.source = None

    def append(self, slot: Slot, tokens: int) -> None:
        """Lengthen a sequence by `tokens`, whose memory the next forward writes; `PoolFull` changes nothing."""
        self._own(slot)
        need = self.need(slot, tokens)
        if need > self.pages_free:
            raise PoolFull(f"{need} pages are needed and {self.pages_free} of {self.num_pages} are free")
        if tokens and slot.length % self.page_size and slot.pages:
            tail = slot.pages[-1]
            if self._shared_tail(slot):
                self._copy_tail(slot)
            elif self._pages.kept[tail]:  # it was cut back to before this page's end, and writes it anew
                self._pages.drop(tail)
        if need:
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
        self._share(twin, slot.pages)
        self.store.copy_row(slot.row, twin.row)
        twin.length, twin.first = slot.length, slot.first
        twin.snapshots, twin.source = dict(slot.snapshots), slot.source
        return twin

    def slide(self, slot: Slot) -> None:
        """Give back the pages that no window of any layer reaches from the present length on."""
        self._own(slot)
        if self.window is None:
            return
        gone = max(0, slot.length - self.window + 1) // self.page_size
        if gone > slot.gone:
            for at in range(slot.gone, gone):
                self._pages.give(slot.pages[at])
                slot.pages[at] = 0
            self.table[slot.row, slot.gone : gone] = 0
            slot.gone, slot.first = gone, gone * self.page_size
            slot.straight = bool((np.diff(slot.pages[gone:]) == 1).all())

    def snapshot(self, slot: Slot) -> int:
        """Remember the state at the present length, so that `truncate` can come back to it; return that length."""
        self._own(slot)
        if self.stateful:
            slot.snapshots[slot.length] = self.store.take_row(slot.row)
        return slot.length

    def truncate(self, slot: Slot, length: int) -> None:
        """Forget every token from `length` on.

        A recurrent state can only go back to 0 or to a snapshot, and a sequence that has slid only to 0 or to where
        its windows still have all their tokens.
        """
        self._own(slot)
        if not 0 <= length <= slot.length:
            raise UsageError(f"cannot truncate a sequence of {slot.length} tokens to {length}")
        if length == slot.length:
            return
        if length and self.window is not None and slot.first > max(0, length - self.window + 1):
            raise UsageError(f"tokens before {slot.first} were given back: at {length}, windows lack some; recompute")
        if self.stateful and length:
            if length not in slot.snapshots:
                known = sorted(slot.snapshots) or "none"
                raise UsageError(f"no snapshot of the recurrent state at {length} tokens (known: {known}); recompute")
            self.store.put_row(slot.row, slot.snapshots[length])
        elif self.stateful:
            self.store.clear_row(slot.row)
        slot.snapshots = {at: state for at, state in slot.snapshots.items() if at <= length}
        self._drop(slot, self.pages_for(length))
        slot.length, slot.first = length, slot.first if length else 0

    def dump(self, slot: Slot) -> dict[str, Tensor]:
        """Return a sequence's whole memory as CPU tensors (`safetensors` takes them), free of page numbers."""
        self._own(slot)
        length = torch.tensor(slot.length)
        source = {} if slot.source is None else {"source": slot.source.states.cpu()}
        first = {"first": torch.tensor(slot.first)} if slot.first else {}
        return {"length": length, **first, **source, **self.store.dump(self._where(slot), slot.row)}

    def restore(self, tensors: dict[str, Tensor]) -> Slot:
        """Return a new sequence with the memory that `dump` returned."""
        slot = self.open()
        try:
            slot.first = int(tensors["first"]) if "first" in tensors else 0
            self._share(slot, [0] * (slot.first // self.page_size))
            slot.length = slot.gone * self.page_size
            self.append(slot, int(tensors["length"]) - slot.length)
            memory = {k: v for k, v in tensors.items() if k not in ("length", "first", "source")}
            self.store.load(memory, self._where(slot), slot.row)
            if "source" in tensors:
                slot.source = Read(tensors["source"].to(self.store.device))
        except BaseException:
            self.close(slot)
            raise
        return slot

    def check(self) -> None:
        """Raise `AssertionError` unless every page is free or held, counts match, and tables say the same."""
        held = Counter(page for slot in self._slots.values() for page in slot.pages[slot.gone :])
        self._pages.check(held, [slot.claim for slot in self._slots.values()])
        assert sorted([*self._rows, *self._slots]) == list(range(len(self.table))), "a row was lost"
        for row in range(len(self.table)):
            pages = self._slots[row].pages if row in self._slots else []
            assert self.table[row, : len(pages)].tolist() == pages, f"the table of row {row} is wrong"
            assert not self.table[row, len(pages) :].any(), f"the table of row {row} is not padded with page 0"
        for row, slot in self._slots.items():
            assert slot.row == row and len(slot.pages) == self.pages_for(slot.length), f"row {row} has the wrong length"
            assert not any(slot.pages[: slot.gone]), f"row {row} holds pages that it gave back"
            assert slot.gone == slot.first // self.page_size, f"row {row} gave back other pages than it says"
            assert not slot.straight or (np.diff(slot.pages[slot.gone :]) == 1).all(), f"row {row} is not straight"
        assert all(not bool(k[:, : self.page_size].any()) for k in self.store.k.values()), "the zero page was written"

    def keep(self, page: int) -> None:
        """Mark a full page that a sequence holds: until its room is needed, `open(past=...)` can begin with it."""
        self._pages.keep(page)

    def forget(self, page: int) -> None:
        """Take the mark of `keep` away."""
        self._pages.drop(page)

    def on_evict(self, told: Callable[[int], None]) -> None:
        """Have `told(page)` called whenever a page loses its mark."""
        self._pages.evicted = told

    def kept(self, page: int) -> bool:
        """Say whether a page is marked."""
        return bool(self._pages.kept[page])

    def held(self, page: int) -> int:
        """Return how many sequences hold a page."""
        return int(self._pages.counts[page])

    @property
    def pages_kept(self) -> int:
        """Return how many pages are marked, held or not."""
        return int(self._pages.kept.sum())

    def _own(self, slot: Slot) -> None:
        assert self._slots.get(slot.row) is slot, "this sequence was closed, or belongs to another pool"

    def _where(self, slot: Slot) -> Tensor:
        at = np.arange(slot.first, slot.length) if self.paged else np.arange(0)
        pages = np.asarray(slot.pages, dtype=np.int64)
        where = pages[at // self.page_size] * self.page_size + at % self.page_size
        return torch.from_numpy(where).to(self.store.device)

    def _shared_tail(self, slot: Slot) -> bool:
        return slot.length % self.page_size != 0 and bool(slot.pages) and bool(self._pages.counts[slot.pages[-1]] > 1)

    def _share(self, slot: Slot, pages: Sequence[int]) -> None:
        """Begin an empty sequence with pages of others; page 0 stands for what was given back."""
        for page in pages:
            if page:
                self._pages.share(page)
                self._push(slot, page)
            else:
                self._push(slot, 0)
                slot.gone += 1

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
        slot.straight = slot.straight and (at <= slot.gone or page == slot.pages[-1] + 1)
        slot.pages.append(page)
        self.table[slot.row, at] = page

    def _drop(self, slot: Slot, keep: int) -> None:
        for page in reversed(
            slot.pages[max(keep, slot.gone) :]
        ):  # the last first: without what is before, it is no use
            self._pages.give(page)
        del slot.pages[keep:]
        self.table[slot.row, keep:] = 0
        slot.gone = min(slot.gone, keep)
        slot.straight = slot.straight or len(slot.pages) - slot.gone < 2

    def _grow_rows(self) -> None:
        old = len(self.table)
        new = max(8, 2 * old)
        self.store.grow_rows(new)
        self.table = np.pad(self.table, ((0, new - old), (0, 0)))
        self._rows += range(old, new)


def reach(memory: Sequence[Memory]) -> int | None:
    """Return how far back the widest window looks; None where some layer looks back at everything, or none at all."""
    windows = [spec.window for spec in memory if isinstance(spec, PerToken)]
    return None if not windows or None in windows else max(window for window in windows if window is not None)


def span(memory: Sequence[Memory], page_size: int, tokens: int, step: int) -> int:
    """Return the most pages that a sequence of `tokens` ever holds if it slides and reads up to `step` at once."""
    if not any(isinstance(spec, PerToken) for spec in memory):
        return 0
    window, whole = reach(memory), -(-tokens // page_size)
    return whole if window is None else min(whole, -(-(window - 1 + step) // page_size) + 1)
