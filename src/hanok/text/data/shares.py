"""Which source each row of a mixture comes from: exact shares that may move over the run, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hanok.core.errors import UsageError

UNIT = 2**32  # a share of 1 as an integer; everything below is exact integer arithmetic
Knot = tuple[int, Sequence[float]]


class Shares:
    """The order in which rows are drawn from k sources.

    `knots` are (row, weights): weights move linearly from one knot to the next and stay at the last; two knots on one
    row are a jump. With C_i(t) the sum of source i's share over the first t ticks, source i gives its rows where
    N_i(t) = floor(C_i(t) + 1/2) grows; ticks with no row are passed over, ticks with several give them by number.
    So after any g rows each source has given C_i(g) within (k + 1) / 2, whatever the schedule, and both questions
    (who gives row g, which row is the j-th of source i) are answered by a search, without going through the rows.
    """

    def __init__(self, knots: Sequence[Knot]) -> None:
        if not knots or knots[0][0] != 0:
            raise UsageError("a schedule of shares needs its first weights at row 0")
        self.size = len(knots[0][1])
        self._rows = [row for row, _ in knots]
        if any(b < a for a, b in pairwise(self._rows)):
            raise UsageError(f"the rows of a schedule must not go back: {self._rows}")
        self._units = [_units(weights, self.size) for _, weights in knots]
        # Twice the sum of the shares up to each knot, in units.
        self._sums = [[0] * self.size]
        for (a, b), (u, v) in zip(pairwise(self._rows), pairwise(self._units), strict=True):
            n = b - a
            grown = [2 * x * n + (y - x) * max(n - 1, 0) for x, y in zip(u, v, strict=True)]
            self._sums.append([s + g for s, g in zip(self._sums[-1], grown, strict=True)])

    def at(self, row: int) -> tuple[int, int]:
        """Return the source of a row, and how many rows that source has given before it."""
        before, sources = self._tick(row)
        source = sources[row - sum(before)]
        return source, before[source]

    def row_of(self, source: int, index: int, rows: int) -> int | None:
        """Return which row is the `index`-th (from 0) of a source, or None if it is none of the first `rows`."""
        low, high = 0, rows + self.size + 1
        if self._given(high)[source] <= index:
            return None
        while low + 1 < high:  # given(low) <= index < given(high)
            middle = (low + high) // 2
            low, high = (middle, high) if self._given(middle)[source] <= index else (low, middle)
        before, after = self._given(low), self._given(high)
        row = sum(before) + sum(after[i] > before[i] for i in range(source))
        return row if row < rows else None

    def counts(self, rows: int) -> list[int]:
        """Return how many of the first `rows` rows each source gives."""
        before, sources = self._tick(rows)
        for source in sources[: rows - sum(before)]:
            before[source] += 1
        return before

    def expected(self, row: int) -> list[float]:
        """Return the sum of each source's share over the first `row` rows: what the schedule asks for."""
        doubled, n = self._doubled(row)
        return [value / (2 * UNIT * n) for value in doubled]

    def _tick(self, row: int) -> tuple[list[int], list[int]]:
        """Return what each source has given before the tick that a row falls in, and the sources of that tick."""
        low, high = max(0, row - self.size - 1), row + self.size + 1
        while low + 1 < high:  # given(low) <= row < given(high)
            middle = (low + high) // 2
            low, high = (middle, high) if sum(self._given(middle)) <= row else (low, middle)
        before, after = self._given(low), self._given(high)
        return before, [i for i in range(self.size) if after[i] > before[i]]

    def _given(self, tick: int) -> list[int]:
        doubled, n = self._doubled(tick)
        return [(value + UNIT * n) // (2 * UNIT * n) for value in doubled]

    def _doubled(self, tick: int) -> tuple[list[int], int]:
        """Return 2 n UNIT C_i(tick) and n, all integers."""
        last = len(self._rows) - 1
        knot = next((k for k in range(last, -1, -1) if self._rows[k] <= tick), 0)
        m, sums, u = tick - self._rows[knot], self._sums[knot], self._units[knot]
        if knot == last:
            return [s + 2 * x * m for s, x in zip(sums, u, strict=True)], 1
        n, v = self._rows[knot + 1] - self._rows[knot], self._units[knot + 1]
        return [(s + 2 * x * m) * n + (y - x) * m * (m - 1) for s, x, y in zip(sums, u, v, strict=True)], n


def _units(weights: Sequence[float], size: int) -> list[int]:
    """Return weights as integers that add up to UNIT, rounded by largest remainder."""
    if len(weights) != size or not size:
        raise UsageError(f"a mixture needs one weight for each source: {len(weights)} for {size}")
    if not all(0 <= weight < float("inf") for weight in weights) or sum(weights) <= 0:
        raise UsageError(f"the weights of a mixture must be at least 0 and not all 0: {list(weights)}")
    whole = sum(weights)
    exact = [weight / whole * UNIT for weight in weights]
    units = [int(value) for value in exact]
    # Only sources with a weight may take what rounding has left: a share of 0 is no row at all.
    order = sorted((i for i in range(size) if weights[i] > 0), key=lambda i: units[i] - exact[i])
    left = UNIT - sum(units)
    for place in range(abs(left)):
        units[order[place % len(order)]] += 1 if left > 0 else -1
    return units
