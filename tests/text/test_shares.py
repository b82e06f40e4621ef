"""The order of a mixture: each source's rows come once and in order, and shares hold after any number of rows."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from hanok.core.errors import UsageError
from hanok.text.data.shares import Knot, Shares

WINDOW = 10_000_000  # tokens over which a realised share must be within 0.1 percentage points of the schedule


def weights(rng: random.Random, size: int) -> list[float]:
    while True:
        drawn = [rng.choice([0.0, 0.0, 1.0, 1e-3, rng.random()]) for _ in range(size)]
        if sum(drawn) > 0:
            return drawn


def schedules(n: int, seed: int) -> list[list[Knot]]:
    rng = random.Random(seed)
    found: list[list[Knot]] = []
    for _ in range(n):
        size = rng.randint(1, 6)
        rows = sorted([0, *(rng.randint(0, 200) for _ in range(rng.randint(0, 4)))])
        found.append([(row, weights(rng, size)) for row in rows])
    return found


@pytest.mark.parametrize("knots", schedules(25, 0))
def test_both_questions_agree_with_counting(knots: list[Knot]) -> None:
    shares = Shares(knots)
    counts, rows = [0] * shares.size, 260
    for row in range(rows):
        source, index = shares.at(row)
        assert index == counts[source]
        assert shares.row_of(source, index, rows) == row
        assert shares.counts(row) == counts
        counts[source] += 1
        asked = shares.expected(row + 1)
        assert max(abs(a - b) for a, b in zip(counts, asked, strict=True)) <= (shares.size + 1) / 2
    for source in range(shares.size):
        assert shares.row_of(source, counts[source], rows) is None
        assert shares.row_of(source, 10**9, rows) is None


def test_what_is_asked_for_is_what_the_knots_say() -> None:
    """The closed form equals adding up interpolated weights row by row."""
    knots: list[Knot] = [(0, [1, 3]), (100, [1, 1]), (100, [0, 1]), (180, [1, 0])]
    shares = Shares(knots)
    total = np.zeros(2)
    for row in range(250):
        if row < 100:
            now = np.array([0.25, 0.75]) * (1 - row / 100) + np.array([0.5, 0.5]) * row / 100
        else:
            now = np.array([min((row - 100) / 80, 1), max(1 - (row - 100) / 80, 0)])
        total += now
        assert shares.expected(row + 1) == pytest.approx(total.tolist(), abs=1e-6)


def worst_window(sources: Sequence[int], asked: np.ndarray[tuple[int, ...], np.dtype[np.float64]], rows: int) -> float:
    """Return the largest difference of realised and asked share over all windows of so many rows."""
    size = asked.shape[1]
    given = np.concatenate([np.zeros((1, size)), np.cumsum(np.eye(size)[list(sources)], axis=0)])
    return float(np.abs((given[rows:] - given[:-rows]) - (asked[rows:] - asked[:-rows])).max() / rows)


def test_shares_hold_over_any_window_of_ten_million_tokens() -> None:
    """Four sources, an upsampled one at the end, rows of 2,048 tokens; a mixture drawn at random does not hold them."""
    rows, total = WINDOW // 2048, 10000
    knots: list[Knot] = [
        (0, [0.62, 0.2, 0.13, 0.05]),
        (5000, [0.62, 0.2, 0.13, 0.05]),
        (7000, [0.4, 0.2, 0.1, 0.3]),
        (8400, [0.4, 0.2, 0.1, 0.3]),
        (8400, [0.1, 0.1, 0.1, 0.7]),
    ]
    shares = Shares(knots)
    asked = np.array([shares.expected(row) for row in range(total + 1)])
    drawn = [shares.at(row)[0] for row in range(total)]
    assert worst_window(drawn, asked, rows) < 0.001
    rng = np.random.default_rng(0)
    below = np.cumsum(np.diff(asked, axis=0), axis=1)
    random_draws = np.minimum((rng.random(total)[:, None] > below).sum(1), 3).tolist()
    assert worst_window(random_draws, asked, rows) > 0.001  # the control


def test_a_source_without_weight_gives_nothing() -> None:
    shares = Shares([(0, [1.0, 0.0]), (50, [1.0, 0.0]), (50, [0.0, 1.0])])
    assert {shares.at(row)[0] for row in range(50)} == {0}
    assert {shares.at(row)[0] for row in range(50, 100)} == {1}
    assert shares.row_of(0, 50, 10**6) is None


def test_mistakes_are_explained() -> None:
    with pytest.raises(UsageError, match="at row 0"):
        Shares([(5, [1.0])])
    with pytest.raises(UsageError, match="not go back"):
        Shares([(0, [1.0]), (9, [1.0]), (8, [1.0])])
    with pytest.raises(UsageError, match="one weight for each source"):
        Shares([(0, [1.0]), (9, [1.0, 2.0])])
    for bad in ([0.0, 0.0], [-1.0, 2.0], [float("nan"), 1.0], [float("inf"), 1.0]):
        with pytest.raises(UsageError, match="at least 0"):
            Shares([(0, bad)])
