"""The block form of Mamba-2 against its recurrent form, its gradient, its bits and its digits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hanok.ops import ssd as module
from hanok.ops.numerics import numerics
from hanok.ops.selective_scan import selective_scan_reference
from hanok.ops.ssd import segment_sums, ssd, ssd_reference

# tokens, groups, heads of a group, channels of a head, numbers of state
SHAPES = [(1, 1, 2, 3, 4), (64, 1, 1, 5, 6), (65, 2, 3, 4, 5), (150, 3, 1, 2, 7)]
Shape = tuple[int, int, int, int, int]


def make(shape: Shape, batch: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    length, groups, heads, width, state = shape
    x = torch.randn(batch, length, groups * heads, width, dtype=dtype)
    dt, A = torch.rand(x.shape[:3], dtype=dtype), -torch.rand(groups * heads, dtype=dtype) * 4
    b, c = torch.randn(2, batch, length, groups, state, dtype=dtype)
    return [x, dt, A, b, c, torch.randn(batch, groups, state, heads * width, dtype=dtype)]


def token_by_token(x: Tensor, dt: Tensor, A: Tensor, b: Tensor, c: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    width = x.shape[3]
    wide = dt.repeat_interleave(width, 2), A.repeat_interleave(width)[:, None]
    y, h = selective_scan_reference(x.flatten(2), *wide, b, c, h)
    return y.unflatten(2, (-1, width)), h


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blocks_equal_the_recurrence(shape: Shape, mode: str) -> None:
    inputs = [x.requires_grad_() for x in make(shape)]
    want = token_by_token(*inputs)
    with numerics(mode):
        got = ssd(*inputs)
    weights = [torch.randn_like(y) for y in want]
    for form in (got, ssd_reference(*inputs)):
        for a, b in zip(form, want, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    for a, b in zip(torch.autograd.grad(got, inputs, weights), torch.autograd.grad(want, inputs, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_gradient(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 3)
    with numerics(mode):
        assert torch.autograd.gradcheck(ssd, tuple(x.requires_grad_() for x in make((7, 2, 2, 2, 3), 1)))


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_exact_bits_ignore_chunks_and_batch(shape: Shape) -> None:
    x, dt, A, b, c, h = make(shape, 5, torch.float32)
    with numerics("exact"):
        whole, last = ssd(x, dt, A, b, c, h)
        for row, cut in ((0, 1), (3, 7), (4, 33)):
            r = slice(row, row + 1)
            first, middle = ssd(x[r, :cut], dt[r, :cut], A, b[r, :cut], c[r, :cut], h[r])
            second, end = ssd(x[r, cut:], dt[r, cut:], A, b[r, cut:], c[r, cut:], middle)
            assert torch.equal(torch.cat((first, second), 1), whole[r]) and torch.equal(end, last[r])


def test_digits_over_a_long_sequence() -> None:
    """T = 4096 in float32 keeps to the float64 result, with heads that hardly forget and heads that forget all."""
    x, dt, _, b, c, h = make((4096, 1, 5, 2, 8), 1)
    dt = dt * 0.01
    A = -torch.tensor([1e-4, 0.1, 10.0, 1e3, 1e5], dtype=torch.float64)
    want, _ = token_by_token(x, dt, A, b, c, h)
    got, _ = ssd(*(t.float() for t in (x, dt, A, b, c, h)))
    assert got.isfinite().all()
    error = (got.double() - want).abs().amax((0, 1, 3)) / want.abs().amax((0, 1, 3))
    assert error.max() < 2e-5


def test_segment_sums_keep_small_decays_after_a_large_one() -> None:
    """Control arm beside it: differences of running sums lose them."""
    log_decay = torch.full((32,), -1e-5)
    log_decay[3] = -1e4
    want = torch.tensor(-1e-5) * (torch.arange(32)[:, None] - torch.arange(32))
    after = (slice(10, None), slice(10, None))
    sums, running = segment_sums(log_decay), log_decay.cumsum(0)
    lower = torch.ones(22, 22, dtype=torch.bool).tril()
    torch.testing.assert_close(sums[after][lower], want[after][lower], rtol=1e-5, atol=0)
    assert ((running[:, None] - running)[after][lower] - want[after][lower]).abs().max() > 1e-4
    assert sums[2, 3] == float("-inf") and sums[3, 3] == 0
