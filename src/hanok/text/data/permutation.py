"""A shuffle of n things that needs no list: any place is computed, and found again, in constant time and memory."""

from __future__ import annotations

import math

from hanok.core.errors import UsageError
from hanok.core.rng import derive

ROUNDS = 5  # of both halves; four already pass for random in Luby and Rackoff's sense
MASK = 2**64 - 1


class Permutation:
    """A random order of 0 .. n - 1, given by `seed` and `name`.

    Places are written as pairs (l, r) on a grid of a x b >= n cells, and a Feistel network moves them:
    l += f(r) mod a, then r += f(l) mod b. What lands outside the n cells is moved again (cycle walking), so that the
    n form a permutation of their own: Black and Rogaway 2002, doi:10.1007/3-540-45760-7_9.
    """

    def __init__(self, n: int, *, seed: int, name: str = "") -> None:
        if n < 1:
            raise UsageError("there is nothing to go through: the data is empty")
        self.n = n
        self._rows = math.isqrt(n - 1) + 1
        self._columns = -(-n // self._rows)
        self._keys = [derive(seed, f"{name} round {number}") for number in range(2 * ROUNDS)]

    def __call__(self, place: int) -> int:
        """Return what stands at a place."""
        while True:
            left, right = divmod(place, self._columns)
            for number in range(0, 2 * ROUNDS, 2):
                left = (left + _mix(right ^ self._keys[number])) % self._rows
                right = (right + _mix(left ^ self._keys[number + 1])) % self._columns
            place = left * self._columns + right
            if place < self.n:
                return place

    def find(self, item: int) -> int:
        """Return the place where something stands."""
        while True:
            left, right = divmod(item, self._columns)
            for number in range(2 * ROUNDS - 2, -1, -2):
                right = (right - _mix(left ^ self._keys[number + 1])) % self._columns
                left = (left - _mix(right ^ self._keys[number])) % self._rows
            item = left * self._columns + right
            if item < self.n:
                return item


def _mix(value: int) -> int:
    """Return 64 well-mixed bits (the finaliser of splitmix64)."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)
