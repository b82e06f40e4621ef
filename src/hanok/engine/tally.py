"""How often each token has occurred, kept up as a sequence grows; what penalties are computed from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class Tally:
    """The different tokens of a growing list and their counts, as two arrays side by side."""

    def __init__(self) -> None:
        self._at: dict[int, int] = {}
        self._ids: Ints = np.zeros(64, dtype=np.int64)
        self._counts: Ints = np.zeros(64, dtype=np.int64)
        self._read = 0

    def read(self, tokens: Sequence[int], start: int, drafted: Sequence[int] = ()) -> tuple[Ints, Ints]:
        """Return the ids in tokens[start:] and `drafted`, each once, and how often each occurs.

        `tokens` must be the list of the last call or a longer one; what is drafted is not remembered.
        """
        self._add(tokens[max(self._read, start) :])
        self._read = len(tokens)
        size = len(self._at)
        if not drafted:
            return self._ids[:size], self._counts[:size]
        ids, counts = list(self._ids[:size]), self._counts[:size].tolist()
        new: dict[int, int] = {}
        for token in drafted:
            at = self._at.get(token, new.get(token))
            if at is None:
                new[token] = len(ids)
                ids.append(np.int64(token))
                counts.append(1)
            else:
                counts[at] += 1
        return np.asarray(ids, dtype=np.int64), np.asarray(counts, dtype=np.int64)

    def _add(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            at = self._at.setdefault(token, len(self._at))
            if at == len(self._ids):
                self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._ids[at] = token
            self._counts[at] += 1
