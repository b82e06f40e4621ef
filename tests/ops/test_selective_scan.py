"""The selective scan against its definition, its gradient, its bits, and its digits over long sequences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hanok.ops import selective_scan as module
from hanok.ops.numerics import numerics
from hanok.ops.selective_scan import fold, selective_scan, selective_scan_reference

# tokens, groups, channels of a group, numbers of state, columns of A
SHAPES = [(1, 1, 3, 4, 4), (13, 1, 8, 16, 16), (70, 2, 3, 5, 5), (33, 3, 2, 7, 1)]
Shape = tuple[int, int, int, int, int]


def make(shape: Shape, batch: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    length, groups, width, state, columns = shape
    x = torch.randn(batch, length, groups * width, dtype=dtype)
    A = -torch.rand(groups * width, columns, dtype=dtype) * 4
    b, c = torch.randn(2, batch, length, groups, state, dtype=dtype)
    return [x, torch.rand_like(x), A, b, c, torch.randn(batch, groups, state, width, dtype=dtype)]


@pytest.mark.parametrize("slab", [1, 200, 1 << 18])
@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_its_definition(shape: Shape, mode: str, slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLAB", slab)  # chunks of one step, of several, and a single one
    inputs = [x.requires_grad_() for x in make(shape)]
    want = selective_scan_reference(*inputs)
    with numerics(mode):
        got = selective_scan(*inputs)
    weights = [torch.randn_like(y) for y in want]
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    for a, b in zip(torch.autograd.grad(got, inputs, weights), torch.autograd.grad(want, inputs, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("columns", [1, 3])
def test_gradient(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLAB", 40)
    inputs = tuple(x.requires_grad_() for x in make((5, 2, 2, 3, columns), 1))
    assert torch.autograd.gradcheck(selective_scan, inputs)


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_exact_bits_ignore_chunks_and_batch(shape: Shape) -> None:
    x, dt, A, b, c, h = make(shape, 5, torch.float32)
    with numerics("exact"):
        whole, last = selective_scan(x, dt, A, b, c, h)
        for row, cut in ((0, 1), (3, 7), (4, 12)):
            r = slice(row, row + 1)
            first, middle = selective_scan(x[r, :cut], dt[r, :cut], A, b[r, :cut], c[r, :cut], h[r])
            second, end = selective_scan(x[r, cut:], dt[r, cut:], A, b[r, cut:], c[r, cut:], middle)
            assert torch.equal(torch.cat((first, second), 1), whole[r]) and torch.equal(end, last[r])


def test_digits_over_a_long_sequence() -> None:
    """T = 4096 in float32 keeps to the float64 result; some channels hardly forget, some forget all at once."""
    x, dt, _, b, c, h = make((4096, 1, 4, 8, 8), 1)
    dt = dt * 0.01
    A = -torch.tensor([1e-4, 0.1, 10.0, 1e4], dtype=torch.float64)[:, None].expand(4, 8).contiguous()
    want, _ = selective_scan_reference(x, dt, A, b, c, h)
    got, _ = selective_scan(*(t.float() for t in (x, dt, A, b, c, h)))
    assert got.isfinite().all()
    error = (got.double() - want).abs().amax((0, 1)) / want.abs().amax((0, 1))
    assert error.max() < 2e-5


@pytest.mark.parametrize("size", [1, 2, 5, 16, 31])
def test_fold_is_a_sum(size: int) -> None:
    x = torch.randn(3, 4, size, 6, dtype=torch.float64)
    torch.testing.assert_close(fold(x), x.sum(-2))


def test_memory_does_not_hold_every_state() -> None:
    """What is kept for the gradient is far less than the (T,B,D,N) states, of which the reference keeps several."""

    def kept(function: object) -> int:
        sizes: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        inputs = [x.requires_grad_() for x in make((512, 1, 64, 16, 16), 4, torch.float32)]
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            out = function(*inputs)  # type: ignore[operator]
        assert out[0].requires_grad
        return sum(sizes.values())

    states = 4 * 512 * 4 * 64 * 16
    assert kept(selective_scan) < states / 2 and kept(selective_scan_reference) > 2 * states
