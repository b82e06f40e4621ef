"""Follows one answer through its grammar: which tokens may come next, and whether it may end here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hanok.core.errors import UsageError

Bools = npt.NDArray[np.bool_]


class GrammarTooComplex(UsageError):
    """A grammar within all limits on its text needs more work on the way than one step may take."""


class Matcher:
    """A grammar's state behind the tokens of one sequence.

    `done`: nothing more may come. `complete`: the text so far is one that the grammar allows. Tokens go in through
    `push` once they are certain; `allowed` looks behind guesses without taking them. Not for several threads.
    """

    def __init__(self, state: Any, vocab: int, words: Any) -> None:
        self._state, self._vocab, self._words = state, vocab, words
        self._fresh = state.deep_copy()
        self._next: Bools | None = None  # what may come behind the tokens pushed so far

    @property
    def complete(self) -> bool:
        """Say whether the text so far is a whole one."""
        return bool(self._mask()[self._vocab])

    @property
    def done(self) -> bool:
        """Say whether the text is whole and nothing can be added."""
        return bool(self._state.is_stopped()) or not self._mask()[: self._vocab].any()

    def push(self, token: int) -> None:
        """Take a token that was written, and work out what may follow; a token that may not come is a fault."""
        took = self._state.consume_token(token)
        self._next = None
        if took and not self._state.is_stopped():
            self._mask()
        if self._state.is_error():
            raise GrammarTooComplex(f"the grammar cannot be followed any further: {self._state.get_error()[:200]}")

    def allowed(self, drafted: Sequence[int], stops: Collection[int], width: int) -> Bools | None:
        """Return which of `width` tokens may follow the drafted ones, None if those break the grammar themselves.

        `stops` are the tokens that end the sequence: they may come where the text is whole.
        """
        if not drafted:
            mask = self._mask()
        else:
            # On a copy, which is cheap: even asking whether a token is valid can leave an error behind.
            ahead = self._state.deep_copy()
            if max(drafted) >= self._vocab or ahead.try_consume_tokens(list(drafted)) < len(drafted):
                return None
            mask = self._bits(ahead)
        allowed = np.zeros(width, dtype=np.bool_)
        seen = min(width, self._vocab)
        allowed[:seen] = mask[:seen]
        if mask[self._vocab]:
            allowed[list(stops)] = True
        return allowed

    def accepts(self, text: str) -> bool:
        """Say whether a text is a whole one, from its beginning."""
        state = self._fresh.deep_copy()
        tokens = self._words.tokenize_str(text)
        return state.try_consume_tokens(tokens) == len(tokens) and bool(state.is_accepting())

    def _mask(self) -> Bools:
        if self._next is None:
            self._next = self._bits(self._state)
        return self._next

    def _bits(self, state: Any) -> Bools:
        """Return one bit per token and one more: whether the text may end."""
        if state.is_stopped():
            bits = np.zeros(self._vocab + 1, dtype=np.bool_)
            bits[self._vocab] = not state.is_error()
            return bits
        packed = np.frombuffer(state.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(packed, count=self._vocab + 1, bitorder="little").view(np.bool_)
