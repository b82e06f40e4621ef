"""The causal convolution against the library's, its gradient, and its bits."""

from __future__ import annotations

import pytest
import torch

from hanok.ops.causal_conv import causal_conv, causal_conv_reference
from hanok.ops.numerics import numerics


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize(("length", "width", "taps"), [(1, 5, 4), (9, 3, 1), (40, 16, 4), (2, 7, 6)])
def test_equals_the_library(length: int, width: int, taps: int, mode: str, biased: bool) -> None:
    inputs = [torch.randn(*s).double() for s in ((2, length, width), (2, taps - 1, width), (width, 1, taps), (width,))]
    inputs = [x.requires_grad_() for x in (inputs if biased else inputs[:3])]
    bias = inputs[3] if biased else None
    with numerics(mode):
        got, kept = causal_conv(*inputs[:3], bias)
    want = causal_conv_reference(*inputs[:3], bias)
    torch.testing.assert_close(got, want)
    assert torch.equal(kept, torch.cat((inputs[1], inputs[0]), 1)[:, length:])
    weight = torch.randn_like(want)
    wanted = [x for x in inputs if x.numel()]
    for a, b in zip(torch.autograd.grad(got, wanted, weight), torch.autograd.grad(want, wanted, weight), strict=True):
        torch.testing.assert_close(a, b)


def test_exact_bits_ignore_chunks_and_batch() -> None:
    x, past, weight, bias = torch.randn(5, 50, 37), torch.randn(5, 3, 37), torch.randn(37, 1, 4), torch.randn(37)
    with numerics("exact"):
        whole, last = causal_conv(x, past, weight, bias)
        for row, cut in ((0, 1), (3, 7), (4, 33)):
            r = slice(row, row + 1)
            first, middle = causal_conv(x[r, :cut], past[r], weight, bias)
            second, end = causal_conv(x[r, cut:], middle, weight, bias)
            assert torch.equal(torch.cat((first, second), 1), whole[r]) and torch.equal(end, last[r])
