"""The page pool: whatever is done to sequences, pages add up and each sequence keeps its own past."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanok.core.errors import UsageError
from hanok.engine.layout import Layout, Row
from hanok.engine.pool import Pool, PoolFull, Slot
from hanok.nn.context import PerSequence, PerToken

WINDOWS = [PerSequence((2,)), PerToken(2, 3, 1, window=6), PerToken(1, 4, 2, shared=True, window=9)]
MEMORY = [PerToken(2, 3, 1), PerSequence((2,)), PerToken(2, 3, 1), PerToken(1, 4, 2, shared=True)]


class Ledger:
    """A pool beside plain Python lists of what each sequence was given."""

    def __init__(self, memory: list[Any], pages: int, **options: Any) -> None:
        self.pool = Pool(memory, pages, **options)
        self.written: dict[Slot, list[float]] = {}
        self.marks: dict[Slot, dict[int, list[float]]] = {}
        self.clock = 0.0
        self.kept: dict[int, list[float]] = {}  # what is in the pages that were kept
        self.pool.on_evict(self.kept.pop)

    def open(self, expect: int = 0) -> Slot:
        slot = self.pool.open(expect)
        self.written[slot], self.marks[slot] = [], {}
        return slot

    def keep(self, slot: Slot) -> None:
        size = self.pool.page_size
        for at in range(slot.gone, slot.length // size if self.pool.paged else 0):
            if slot.pages[at] not in self.kept:
                self.kept[slot.pages[at]] = self.written[slot][at * size : (at + 1) * size]
                self.pool.keep(slot.pages[at])

    def past(self, number: int) -> None:
        """Begin a sequence with some kept pages; behind a window, without the first ones."""
        pages = list(self.kept)[: number % (len(self.kept) + 1)]
        values = [value for page in pages for value in self.kept[page]]
        gone = 0 if self.pool.window is None else max(0, len(values) - self.pool.window + 1) // self.pool.page_size
        slot = self.pool.open(number, [0] * gone + pages[gone:])
        self.written[slot], self.marks[slot] = values, {}
        for state in self.pool.store.state.values():
            state[slot.row] = sum(values)

    def append(self, slot: Slot, count: int) -> None:
        start = slot.length
        self.pool.append(slot, count)
        where = Layout(self.pool, [Row(slot, start, count)]).writes() if self.pool.paged else None
        values = [self.clock + i for i in range(count)]
        self.clock += count
        for tensors in (self.pool.store.k, self.pool.store.v):
            for tensor in tensors.values():
                tensor[:, where] = torch.tensor(values)[None, :, None]
        self.written[slot] += values
        for state in self.pool.store.state.values():
            state[slot.row] = sum(self.written[slot])

    def verify(self) -> None:
        self.pool.check()
        for slot, values in self.written.items():
            assert slot.length == len(values)
            saved = self.pool.dump(slot)
            for name, tensor in saved.items():
                if name.endswith((".k", ".v")):
                    want = torch.tensor(values[slot.first :])[None, :, None]
                    assert torch.equal(tensor, want.expand_as(tensor)), name
                elif name.endswith(".state"):
                    assert torch.equal(tensor, torch.full_like(tensor, sum(values))), name


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "open",
                "append",
                "append",
                "append",
                "fork",
                "truncate",
                "snapshot",
                "dump",
                "close",
                "slide",
                "keep",
                "past",
            ]
        ),
        st.integers(0, 50),
    ),
    max_size=40,
)


@pytest.mark.parametrize("order", ["linear", "shuffled"])
@pytest.mark.parametrize(
    "memory",
    [MEMORY, MEMORY[:1], MEMORY[1:2], WINDOWS, WINDOWS[1:]],
    ids=["hybrid", "attention", "recurrent", "hybrid windows", "windows"],
)
@settings(max_examples=40, deadline=None)
@given(operations=OPERATIONS)
def test_any_operations(memory: list[Any], order: Any, operations: list[tuple[str, int]]) -> None:
    ledger = Ledger(memory, 9, page_size=4, order=order)
    for word, number in operations:
        slots = list(ledger.written)
        slot = slots[number % len(slots)] if slots else ledger.open()
        try:
            if word == "open":
                ledger.open(expect=number)
            elif word == "append":
                ledger.append(slot, number % 11)
            elif word == "fork":
                twin = ledger.pool.fork(slot)
                ledger.written[twin], ledger.marks[twin] = list(ledger.written[slot]), dict(ledger.marks[slot])
            elif word == "truncate":
                _truncate(ledger, slot, number % (slot.length + 1))
            elif word == "snapshot":
                ledger.marks[slot][ledger.pool.snapshot(slot)] = list(ledger.written[slot])
            elif word == "dump":
                ledger.written[ledger.pool.restore(ledger.pool.dump(slot))] = list(ledger.written[slot])
                ledger.marks[list(ledger.written)[-1]] = {}
            elif word == "slide":
                ledger.pool.slide(slot)
            elif word == "keep":
                ledger.keep(slot)
            elif word == "past":
                ledger.past(number)
            else:
                ledger.pool.close(slot)
                del ledger.written[slot], ledger.marks[slot]
        except PoolFull:
            pass
        ledger.verify()
    for slot in list(ledger.written):
        ledger.pool.close(slot)
    assert ledger.pool.pages_used == 0


def _truncate(ledger: Ledger, slot: Slot, length: int) -> None:
    possible = not ledger.pool.stateful or length in (0, slot.length) or length in ledger.marks[slot]
    window = ledger.pool.window
    if window is not None and 0 < length < slot.length and slot.first > max(0, length - window + 1):
        with pytest.raises(UsageError, match="windows lack some"):
            ledger.pool.truncate(slot, length)
        return
    if not possible:
        with pytest.raises(UsageError, match="no snapshot of the recurrent state"):
            ledger.pool.truncate(slot, length)
        return
    ledger.pool.truncate(slot, length)
    del ledger.written[slot][length:]
    ledger.marks[slot] = {at: past for at, past in ledger.marks[slot].items() if at <= length}


def test_full_pool_changes_nothing() -> None:
    ledger = Ledger(MEMORY, 3, page_size=4)
    slot = ledger.open()
    ledger.append(slot, 10)
    with pytest.raises(PoolFull, match="1 pages are needed and 0 of 3 are free"):
        ledger.pool.append(slot, 3)
    ledger.verify()
    ledger.append(slot, 2)
    ledger.verify()


def test_fork_shares_until_one_writes() -> None:
    ledger = Ledger(MEMORY, 8, page_size=4)
    slot = ledger.open()
    ledger.append(slot, 6)
    ledger.written[(twin := ledger.pool.fork(slot))] = list(ledger.written[slot])
    assert ledger.pool.pages_used == 2
    ledger.append(twin, 1)
    assert ledger.pool.pages_used == 3 and twin.pages[0] == slot.pages[0] and twin.pages[1] != slot.pages[1]
    ledger.append(slot, 1)
    assert ledger.pool.pages_used == 3  # the last holder writes in place
    ledger.verify()


def test_sequences_that_grow_together_stay_straight() -> None:
    """Each finds its pages in a row, though they take turns; without the claim (control) they interleave."""
    for expect, straight in ((20, True), (0, False)):
        ledger = Ledger(MEMORY, 15, page_size=4)
        slots = [ledger.open(expect) for _ in range(3)]
        for _ in range(10):
            for slot in slots:
                ledger.append(slot, 2)
                ledger.verify()
        assert all(slot.straight is straight for slot in slots) and ledger.pool.pages_free == 0


def test_claims_give_way_when_pages_run_out() -> None:
    ledger = Ledger(MEMORY, 6, page_size=4)
    first, second = ledger.open(expect=24), ledger.open(expect=24)
    ledger.append(first, 4)
    ledger.append(second, 20)
    ledger.verify()
    assert ledger.pool.pages_free == 0


def test_new_pages_are_clean() -> None:
    """A page that held numbers of another sequence, even NaN, reads as zeros where nothing is written."""
    pool = Pool(MEMORY[:1], 2, page_size=4)
    slot = pool.open()
    pool.append(slot, 8)
    pool.store.k[0][:, 4:] = float("nan")
    pool.close(slot)
    slot = pool.open()
    pool.append(slot, 1)
    first = pool.store.k[0].view(2, -1, 4, 3)[:, slot.pages[0]]
    assert torch.equal(first, torch.zeros_like(first))


def test_integrity_check_has_teeth() -> None:
    """Control arm: each kind of damage is found."""
    damages = {
        "reference counts": lambda pool, slot: pool._pages.counts.__setitem__(slot.pages[0], 0),
        "counts are wrong": lambda pool, slot: pool._pages.counts.__setitem__(slot.pages[0], 2),
        "in use is wrong": lambda pool, slot: setattr(pool._pages, "used", 2),
        "page is held": lambda pool, slot: pool._pages.counts.__setitem__(0, 1),
        "claim was lost": lambda pool, slot: pool._pages.release(slot.claim),
        "claimed twice": lambda pool, slot: setattr(next(iter(pool._slots.values())), "claim", pool.open(9).claim),
        "table": lambda pool, slot: pool.table.__setitem__((slot.row, 0), 7),
        "padded": lambda pool, slot: pool.table.__setitem__((slot.row, 3), 7),
        "a row was lost": lambda pool, slot: pool._rows.pop(),
        "wrong length": lambda pool, slot: setattr(slot, "length", 99),
        "zero page": lambda pool, slot: pool.store.k[0].fill_(1.0),
    }
    for message, damage in damages.items():
        ledger = Ledger(MEMORY, 12, page_size=4)
        ledger.append(ledger.open(expect=12), 9)
        ledger.verify()
        damage(ledger.pool, next(iter(ledger.written)))
        with pytest.raises(AssertionError, match=message):
            ledger.pool.check()


def test_bad_arguments() -> None:
    for options in ({"num_pages": 0}, {"num_pages": 3, "page_size": 0}, {"num_pages": 3, "order": "sorted"}):
        with pytest.raises(UsageError):
            Pool(MEMORY, **options)  # type: ignore[arg-type]
    pool = Pool(MEMORY, 4, page_size=4)
    slot = pool.open()
    with pytest.raises(UsageError, match="cannot truncate"):
        pool.truncate(slot, 1)
    pool.append(slot, 3)
    saved = pool.dump(slot)
    with pytest.raises(UsageError, match="this model keeps"):
        Pool(MEMORY[:1], 4).restore(saved)
    with pytest.raises(UsageError, match="saved memory"):
        Pool(MEMORY, 4, dtype=torch.float64).restore(saved)
    pool.close(slot)
    with pytest.raises(AssertionError, match="closed"):
        pool.append(slot, 1)
