"""How many near-duplicates are found: measured on planted pairs, beside the theory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hanok.core.errors import UsageError
from hanok.core.rng import derive
from hanok.text.data.dedup.minhash import MinHash
from hanok.text.data.words import mix

SIMILARITIES = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
SHINGLES = 120  # of both texts of a pair together
CHUNK = 250  # pairs at a time


@dataclass(frozen=True)
class Recall:
    """The share of pairs of one similarity that share a band, and what the theory says."""

    jaccard: float
    expected: float
    measured: float
    pairs: int

    @property
    def error(self) -> float:
        """Return measured minus expected."""
        return self.measured - self.expected

    @property
    def deviations(self) -> float:
        """Return the error in standard deviations of so many draws; 0 where the theory leaves no chance."""
        spread = math.sqrt(self.expected * (1 - self.expected) / self.pairs)
        return self.error / spread if spread else 0.0


@dataclass(frozen=True)
class RecallReport:
    """Measured recall by similarity; `unrelated` is the share of unrelated pairs that were taken for duplicates."""

    ngram: int
    bands: int
    rows: int
    recalls: tuple[Recall, ...]
    unrelated: float

    @property
    def worst(self) -> float:
        """Return the largest distance from the theory."""
        return max(abs(recall.error) for recall in self.recalls)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able data."""
        return asdict(self) | {"worst": self.worst}

    def table(self) -> list[list[str]]:
        """Return the rows of a printed table: similarity, theory, measured, difference in percentage points."""
        return [
            [f"{r.jaccard:.3f}", f"{r.expected:.2%}", f"{r.measured:.2%}", f"{100 * r.error:+.2f} pp"]
            for r in self.recalls
        ]

    def __str__(self) -> str:
        head = f"MinHash of {self.ngram}-grams, {self.bands} bands of {self.rows}: 1 - (1 - J^{self.rows})^{self.bands}"
        lines = ["     J    theory  measured  difference"]
        lines += [f"{j:>6}  {theory:>8}  {found:>8}  {error:>10}" for j, theory, found, error in self.table()]
        tail = f"furthest from the theory: {100 * self.worst:.2f} pp; unrelated pairs found: {self.unrelated:.4%}"
        return "\n".join([head, *lines, tail])


def measure_recall(
    minhash: MinHash, similarities: Sequence[float] = SIMILARITIES, *, pairs: int = 10_000, seed: int = 0
) -> RecallReport:
    """Plant pairs of sets of shingles of known similarity and count those that share a band.

    Each similarity is rounded to what `SHINGLES` shingles can show, and the rounded one is what the theory is asked
    about. With p pairs the measurement itself strays by up to 1 / sqrt(p) (two standard deviations at 50 %).
    """
    if pairs < 1 or any(not 0 < similarity <= 1 for similarity in similarities):
        raise UsageError("measuring recall needs at least one pair, and similarities in (0, 1]")
    recalls = []
    for similarity in similarities:
        shared = max(round(similarity * SHINGLES), 1)
        jaccard = shared / SHINGLES
        found = _found(minhash, shared, pairs, derive(seed, f"recall {shared}"))
        recalls.append(Recall(jaccard, minhash.expected_recall(jaccard), found / pairs, pairs))
    unrelated = _found(minhash, 0, pairs, derive(seed, "recall 0")) / pairs
    config = minhash.config
    return RecallReport(config.ngram, config.bands, config.rows, tuple(recalls), unrelated)


def _found(minhash: MinHash, shared: int, pairs: int, seed: int) -> int:
    """Return how many pairs with `shared` of `SHINGLES` shingles in common share a band."""
    found, start = 0, np.uint64(seed % 2**63)
    half = (SHINGLES - shared) // 2  # what the first text alone has; the second has the rest
    for at in range(0, pairs, CHUNK):
        count = min(CHUNK, pairs - at)
        numbers = start + np.arange(at * SHINGLES, (at + count) * SHINGLES, dtype=np.uint64)
        shingles = mix(mix(numbers)).reshape(count, SHINGLES)
        a = minhash.keys(minhash.minima(shingles[:, : shared + half]))
        b = minhash.keys(minhash.minima(np.concatenate([shingles[:, :shared], shingles[:, shared + half :]], axis=1)))
        found += int((a == b).any(axis=1).sum())
    return found
