"""The shuffle that needs no list: a bijection with an inverse, as even as a drawn one, and instant at any size."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from hanok.core.errors import UsageError
from hanok.text.data.permutation import Permutation


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 16, 17, 100, 1000, 1001])
def test_every_item_has_one_place(n: int) -> None:
    order = Permutation(n, seed=3, name="epoch 0")
    items = [order(place) for place in range(n)]
    assert sorted(items) == list(range(n))
    assert [order.find(item) for item in items] == list(range(n))


def chi_square(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> float:
    """Return how many standard deviations the chi-square statistic lies above its mean."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("n", [3, 4, 10])
def test_pairs_of_places_are_even_over_seeds(n: int) -> None:
    """Every ordered pair of items is as likely at the first two places as any other."""
    counts = np.zeros((n, n), dtype=np.int64)
    for seed in range(3000):
        order = Permutation(n, seed=seed, name="x")
        counts[order(0), order(1)] += 1
    assert counts.diagonal().sum() == 0
    assert abs(chi_square(counts[~np.eye(n, dtype=bool)])) < 4
    skewed = counts[~np.eye(n, dtype=bool)].copy()
    skewed[0] = skewed[0] * 2  # the control: the measure would notice one pair that comes twice as often
    assert chi_square(skewed) > 4


def test_neighbours_are_torn_apart() -> None:
    """The rank correlation of place and item is that of a random order, in every pass and between passes."""
    n = 4000
    orders = [[Permutation(n, seed=1, name=f"epoch {e}")(place) for place in range(n)] for e in range(3)]
    for a, b in itertools.combinations([list(range(n)), *orders], 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(n)
    steps = np.abs(np.diff(orders[0]))
    assert abs(steps.mean() - n / 3) < 4 * n / np.sqrt(18 * n)  # two random places lie n / 3 apart


def test_a_trillion_things_need_no_memory() -> None:
    order, rng = Permutation(10**12, seed=5), random.Random(0)
    places = [rng.randrange(10**12) for _ in range(200)]
    assert [order.find(order(place)) for place in places] == places
    assert [order(place) for place in places] != places


def test_names_and_seeds_differ() -> None:
    one = [Permutation(50, seed=0, name="a")(i) for i in range(50)]
    assert one == [Permutation(50, seed=0, name="a")(i) for i in range(50)]
    assert one != [Permutation(50, seed=1, name="a")(i) for i in range(50)]
    assert one != [Permutation(50, seed=0, name="b")(i) for i in range(50)]
    with pytest.raises(UsageError, match="empty"):
        Permutation(0, seed=0)
