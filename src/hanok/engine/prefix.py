"""Prefix cache: what was computed for one sequence begins another with the same tokens, whatever memory it is."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field

from torch import Tensor

from hanok.engine.pool import Pool, Slot
from hanok.engine.sequence import Sequence

SEEN = 16384  # borders that are remembered without a state, so that one that comes again is known to be shared


@dataclass(slots=True)
class Chain:
    """The keys of a sequence's full pages, each made from the one before it and from its own tokens."""

    root: bytes
    keys: list[bytes] = field(default_factory=list)
    recorded: int = 0  # pages that the cache was already told of
    border: int = 0  # a length that others have passed too, where a state would have helped
    rolling: bytes | None = None  # the state at the last border of what was generated
    stale: bool = False  # some of its memory is of other weights


@dataclass(frozen=True, slots=True)
class Match:
    """The longest known beginning: `pages` (page 0 where no window looks any more) and the recurrent state behind."""

    pages: list[int] = field(default_factory=list)
    length: int = 0
    state: list[Tensor] | None = None


class PrefixCache:
    """Full pages by the tokens up to their end, and recurrent states at some of those ends.

    key(page) = sha256(key(page before), the page's token ids), and the first stands behind
    sha256(salt, source tokens), so a key names everything that its memory depends on, and one tenant's salt finds
    nothing of another's. Pages live in the pool, which takes them back, the longest unused first, when it has no
    other. States are copies, worth having only where sequences may part or go on: at the ends of a prompt's chunks,
    behind its last full page, where a second prompt left the first, and at the latest border of an answer; the
    longest unused are given up beyond `state_bytes`.
    """

    def __init__(self, pool: Pool, *, state_bytes: int) -> None:
        self.pool, self.state_bytes = pool, state_bytes
        self.bytes = 0  # of states
        self._pages: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}
        self._states: OrderedDict[bytes, list[Tensor]] = OrderedDict()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._chains: dict[Sequence, Chain] = {}
        pool.on_evict(self._evicted)

    def keys(self, sequence: Sequence, pages: int) -> list[bytes]:
        """Return the keys of (at least) a sequence's first `pages` full pages."""
        chain, size = self._chain(sequence), self.pool.page_size
        for at in range(len(chain.keys), pages):
            parent = chain.keys[-1] if chain.keys else chain.root
            chain.keys.append(_digest(parent, sequence.tokens[at * size : (at + 1) * size]))
        return chain.keys

    def match(self, sequence: Sequence) -> Match:
        """Return what a sequence can begin with; at least one of its tokens is left to compute."""
        pool, size = self.pool, self.pool.page_size
        count = (len(sequence.tokens) - 1) // size if self.reads(sequence) else 0
        keys = self.keys(sequence, count)[:count]
        best = passed = run = 0
        for at, key in enumerate(keys):
            run = run + 1 if key in self._pages else 0
            first = 0 if pool.window is None else max(0, (at + 1) * size - pool.window + 1) // size
            whole = not pool.paged or run > at - first
            if whole and (not pool.stateful or key in self._states):
                best = at + 1
            if key in self._seen:
                passed = at + 1
        self._chain(sequence).border = passed * size if passed > best else 0
        if not best:
            return Match()
        state = self._states[keys[best - 1]] if pool.stateful else None
        if state is not None:
            self._states.move_to_end(keys[best - 1])
        first = 0 if pool.window is None else max(0, best * size - pool.window + 1) // size
        live = [self._pages[key] for key in keys[first:best]] if pool.paged else []
        return Match([0] * first + live if pool.paged else [], best * size, state)

    def reads(self, sequence: Sequence) -> bool:
        """Say whether a sequence may begin with what is known: not while its prompt's own log-probs are wanted."""
        asked = sequence.request.prompt_logprobs is not None
        return not asked or len(sequence.prompt_logprobs) >= sequence.prompt

    def open(self, sequence: Sequence, match: Match) -> Slot:
        """Start a sequence with what was matched."""
        slot = self.pool.open(sequence.last - 1, match.pages)
        slot.length = match.length
        if match.state is not None:
            self.pool.store.put_row(slot.row, match.state)
        chain = self._chain(sequence)
        chain.recorded, chain.rolling, chain.stale = match.length // self.pool.page_size, None, False
        return slot

    def cut(self, sequence: Sequence, length: int) -> int:
        """Return how many of `length` tokens to read so that a state can be kept behind them, where that is of use."""
        slot, size, chain = sequence.slot, self.pool.page_size, self._chain(sequence)
        assert slot is not None
        if not self.pool.stateful or sequence.left == 1 or chain.stale:
            return length
        start, end = slot.length, slot.length + length
        if start < chain.border < end:
            return chain.border - start
        border = min(end, len(sequence.tokens) - 1) // size * size
        return border - start if border > start else length

    def record(self, sequence: Sequence) -> None:
        """Take in the full pages that the model has read since the last time, and the state if it is at a border."""
        slot, size, chain = sequence.slot, self.pool.page_size, self._chain(sequence)
        assert slot is not None
        # Behind the known tokens there may be guesses, right or wrong, and the last token may have proven one wrong.
        read = min(slot.length, len(sequence.tokens) - 1)
        full = read // size
        if chain.stale or full == chain.recorded:
            return
        keys = self.keys(sequence, full)
        for at in range(chain.recorded, full):
            page = slot.pages[at] if self.pool.paged else 0
            if page and keys[at] not in self._pages and page not in self._keys:
                self._pages[keys[at]], self._keys[page] = page, keys[at]
                self.pool.keep(page)
            if self.pool.stateful:
                self._see(keys[at])
        if self.pool.stateful and slot.length == full * size:
            if slot.length > sequence.prompt and chain.rolling is not None:
                self._drop_state(chain.rolling)
            self._keep_state(keys[full - 1], slot)
            chain.rolling = keys[full - 1] if slot.length > sequence.prompt else None
        chain.recorded = full

    def coming(self, sequence: Sequence, start: int, end: int) -> list[bytes]:
        """Return the keys that a sequence brings by reading its tokens from `start` to `end`."""
        size, full = self.pool.page_size, end // self.pool.page_size
        if self._chain(sequence).stale or (self.pool.stateful and end % size):
            return []
        keys = self.keys(sequence, full)
        return keys[full - 1 : full] if self.pool.stateful and full else keys[start // size : full]

    def leave(self, sequence: Sequence) -> None:
        """Forget a sequence's keys; what it brought stays."""
        self._chains.pop(sequence, None)

    def distrust(self, sequence: Sequence) -> None:
        """Give up what a sequence brought: something went wrong with it."""
        for key in self._chain(sequence).keys:
            if key in self._pages:
                self.pool.forget(self._pages[key])
            self._drop_state(key)

    @property
    def pages(self) -> int:
        """Return how many pages can be found."""
        return len(self._keys)

    def clear(self) -> None:
        """Forget everything; sequences that have begun bring nothing any more."""
        for page in list(self._keys):
            self.pool.forget(page)
        self._states.clear()
        self._seen.clear()
        self.bytes = 0
        for sequence, chain in self._chains.items():
            chain.stale = sequence.slot is not None

    def check(self) -> None:
        """Raise `AssertionError` unless keys and pages belong together, and the bytes of states are right."""
        assert {page: key for key, page in self._pages.items()} == self._keys, "keys and pages do not belong together"
        assert all(self.pool.kept(page) for page in self._keys), "a page has a key, but the pool does not keep it"
        assert len(self._keys) == self.pool.pages_kept, "the pool keeps a page that has no key"
        assert self.bytes == sum(_bytes(state) for state in self._states.values()), "the bytes of states are wrong"
        assert self.bytes <= max(0, self.state_bytes), "more bytes of states are kept than allowed"
        assert len(self._seen) <= SEEN, "too many borders are remembered"

    def _chain(self, sequence: Sequence) -> Chain:
        chain = self._chains.get(sequence)
        if chain is None:
            # The salt's own hash goes in, so that no salt and source can pass for another pair.
            salt = hashlib.sha256((sequence.request.salt or "").encode()).digest()
            chain = self._chains[sequence] = Chain(_digest(salt, sequence.source or ()))
        return chain

    def _see(self, key: bytes) -> None:
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)

    def _keep_state(self, key: bytes, slot: Slot) -> None:
        if key in self._states:
            self._states.move_to_end(key)
            return
        size = self.pool.store.row_bytes
        if size > self.state_bytes:
            return
        while self.bytes + size > self.state_bytes:
            self.bytes -= _bytes(self._states.popitem(last=False)[1])
        self._states[key] = self.pool.store.take_row(slot.row)
        self.bytes += size

    def _drop_state(self, key: bytes) -> None:
        state = self._states.pop(key, None)
        self.bytes -= 0 if state is None else _bytes(state)

    def _evicted(self, page: int) -> None:
        del self._pages[self._keys.pop(page)]


def _digest(parent: bytes, tokens: Ordered[int]) -> bytes:
    return hashlib.sha256(parent + array("q", tokens).tobytes()).digest()


def _bytes(state: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state)
