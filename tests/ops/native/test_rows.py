"""What the kernels do to rows, against torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hanok.ops.largest import largest
from hanok.ops.native.rows import native_add, native_largest

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("width", [1, 7, 8, 16, 33, 1000])
def test_the_largest_and_its_first_place(library: Any, width: int) -> None:
    x = torch.randint(-50, 50, (40, width), generator=torch.Generator().manual_seed(width)).float()  # with ties
    tops, places = native_largest(library, x)
    assert torch.equal(tops, x.amax(-1)) and torch.equal(places, (x == tops[:, None]).int().argmax(-1))
    assert all(map(torch.equal, largest(x), (tops, places))), "and so does torch, where the kernels are not asked for"


@pytest.mark.parametrize("width", [9, 16, 40])
def test_rows_with_what_is_no_number(library: Any, width: int) -> None:
    for at in range(width):
        x = torch.randn(4, width)
        x[0, at], x[1, at], x[2, at], x[3] = NAN, INF, -INF, -INF
        tops, places = native_largest(library, x)
        assert tops[0].isnan() and tops[1] == INF and places[1] == at and tops[3] == -INF
        assert tops[2] == x[2].amax() and places[2] == x[2].argmax(), "a number that is forbidden is none of these"
        assert bool((places >= 0).all()) and bool((places < width).all())


@pytest.mark.parametrize("count", [1, 63, 64, 100_001])
def test_sums_have_the_bits_of_torchs(library: Any, count: int) -> None:
    a, b = torch.randn(2, count).unbind()
    assert torch.equal(native_add(library, a, b), a + b)
