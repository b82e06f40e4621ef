"""How often each n-gram occurs, as sorted arrays: one level per length, each pointing into the level below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hanok.core.errors import UsageError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Level:
    """The different k-grams w_1 .. w_k, sorted by key = context * (V + 1) + w_k.

    `context` and `suffix` are the indices, one level below, of w_1 .. w_{k-1} and of w_2 .. w_k (0 at level 1), and
    `contexts` is how many k-grams lie there. A start symbol is never predicted: what ends in one has the count 0.
    """

    keys: Ints
    context: Ints
    suffix: Ints
    counts: Ints
    contexts: int

    def totals(self, counts: npt.NDArray[Any] | None = None) -> Floats:
        """Return the sum of counts (the level's own unless given) behind each context."""
        weights = self.counts if counts is None else counts
        return np.bincount(self.context, weights=weights, minlength=self.contexts).astype(np.float64)


@dataclass(frozen=True)
class Places:
    """Where the predicted positions of a text stand: per level, the index of the k-gram that ends there and of its
    context, -1 where it was not seen."""

    nodes: list[Ints]
    contexts: list[Ints]


@dataclass(frozen=True)
class Counts:
    """The levels 1 to order of a text in a vocabulary of V tokens."""

    vocab_size: int
    levels: list[Level]

    @classmethod
    def of(cls, documents: Iterable[Sequence[int] | Ints], order: int, vocab_size: int) -> Counts:
        """Count the n-grams of documents of token ids."""
        tokens = lay_out(documents, order, vocab_size)
        real = np.flatnonzero(tokens < vocab_size)  # positions that are predicted
        if not real.size:
            raise UsageError("an n-gram needs at least one token to learn from")
        base = vocab_size + 1
        nodes, levels, contexts = np.zeros_like(tokens), [], 1
        for k in range(1, order + 1):
            before = np.concatenate([np.zeros(1, dtype=np.int64), nodes[:-1]]) if k > 1 else np.zeros_like(tokens)
            shorter = nodes
            keys, nodes = np.unique(before * base + tokens, return_inverse=True)
            suffix = np.zeros(len(keys), dtype=np.int64)
            suffix[nodes] = shorter
            counts = np.bincount(nodes[real], minlength=len(keys))
            levels.append(Level(keys, keys // base, suffix, counts, contexts))
            contexts = len(keys)
        return cls(vocab_size, levels)

    @property
    def keys(self) -> list[Ints]:
        """Return the keys of every level, which is what `locate` needs."""
        return [level.keys for level in self.levels]

    def continuations(self, k: int) -> Ints:
        """Return, for each k-gram, the number of different tokens before it; at the highest order, its count."""
        if k == len(self.levels):
            return self.levels[k - 1].counts
        longer = self.levels[k]
        return np.bincount(longer.suffix[longer.counts > 0], minlength=len(self.levels[k - 1].keys))


def lay_out(documents: Iterable[Sequence[int] | Ints], order: int, vocab_size: int) -> Ints:
    """Return documents end to end, each behind order - 1 start symbols, whose id is V."""
    pad = np.full(order - 1, vocab_size, dtype=np.int64)
    pieces = []
    for document in documents:
        ids = np.asarray(document, dtype=np.int64)
        if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
            raise UsageError(f"a document holds a token id outside the vocabulary of {vocab_size}")
        pieces += [pad, ids]
    return np.concatenate([*pieces, np.zeros(0, dtype=np.int64)])


def locate(keys: Sequence[Ints], tokens: Ints, vocab_size: int) -> Places:
    """Find the k-gram that ends at every position of padded tokens, level by level."""
    places = Places([], [])
    context = np.zeros(len(tokens), dtype=np.int64)
    for level, known in enumerate(keys):
        if level:
            context = np.concatenate([np.full(1, -1), places.nodes[-1][:-1]])
        wanted = context * (vocab_size + 1) + tokens
        place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        places.nodes.append(np.where((known[place] == wanted) & (context >= 0), place, -1))
        places.contexts.append(context)
    return places


def predicted(keys: Sequence[Ints], documents: Iterable[Sequence[int] | Ints], vocab_size: int) -> Places:
    """Return the places of the tokens of documents, start symbols left out."""
    tokens = lay_out(documents, len(keys), vocab_size)
    places, real = locate(keys, tokens, vocab_size), tokens < vocab_size
    if not real.any():
        raise UsageError("the held-out text is empty: an n-gram is measured on at least one token")
    return Places([nodes[real] for nodes in places.nodes], [context[real] for context in places.contexts])
