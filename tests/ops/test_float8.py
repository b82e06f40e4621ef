"""8-bit products against torch's own formats, a brute-force rounding, and torch's scaled product."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hanok.ops.float8 import E4M3, E5M2, Float8, emulated, largest, native, quantised

FORMATS = [E4M3, E5M2]


def numbers(dtype: torch.dtype) -> Tensor:
    """Return every finite number of a format, read off its 256 bit patterns."""
    every = torch.arange(256, dtype=torch.uint8).view(dtype).float()
    finite: Tensor = torch.unique(every[every.isfinite()])
    return finite


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_rounding_is_to_the_nearest_number(dtype: torch.dtype) -> None:
    """Against the whole list of numbers: no other is nearer, from the smallest subnormal to the largest."""
    table = numbers(dtype).double()
    x = torch.cat([torch.randn(500) * 2.0**k for k in range(-18, 16, 2)])
    q, scale = quantised(x, dtype, torch.tensor(torch.finfo(dtype).max))
    assert scale == 1
    error = (q.double() - x.double()).abs()
    nearest = (table - x.double()[:, None]).abs().amin(-1)
    assert torch.equal(error, nearest)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_published_ranges(dtype: torch.dtype) -> None:
    """Micikevicius et al. 2022, arXiv 2209.05433, table 1."""
    table = numbers(dtype)
    positive = table[table > 0]
    largest, smallest = {E4M3: (448.0, 2.0**-9), E5M2: (57344.0, 2.0**-16)}[dtype]
    assert positive[[-1, 0]].tolist() == [largest, smallest]


@pytest.mark.parametrize("granularity", ["tensor", "row"])
@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_scales_use_the_whole_range(dtype: torch.dtype, granularity: str) -> None:
    """The largest number comes back, and the relative error is at most half a step: 1/16 and 1/8 of a normal number."""
    x = torch.randn(40, 64) * torch.logspace(-6, 6, 40)[:, None]
    q, scale = quantised(x, dtype, largest(x, granularity))  # type: ignore[arg-type]
    back = q.float() * scale
    torch.testing.assert_close(back.abs().amax(), x.abs().amax(), rtol=1e-6, atol=0)
    floor = torch.finfo(dtype).smallest_normal * scale
    normal = x.abs() >= floor
    share = {E4M3: 1 / 16, E5M2: 1 / 8}[dtype]
    assert ((back - x).abs() <= (share + 1e-6) * x.abs())[normal].all()
    assert normal.float().mean() > (0.98 if granularity == "row" else 0.3)


def test_beyond_the_largest_known_number_is_the_largest_and_what_is_not_finite_is_not_hidden() -> None:
    x = torch.tensor([1.0, -3.0, 100.0])
    q, scale = quantised(x, E4M3, torch.tensor(2.0))
    assert torch.equal(q.float() * scale, torch.tensor([1.0, -2.0, 2.0]))
    for bad in (math.nan, math.inf):
        x = torch.tensor([[1.0, bad, 2.0], [1.0, 2.0, 3.0]])
        q, scale = quantised(x, E4M3, largest(x, "tensor"))
        assert (q.float() * scale).isnan().all()
        q, scale = quantised(x, E4M3, largest(x, "row"))
        assert (q.float() * scale)[0].isnan().all() and (q.float() * scale)[1].isfinite().all()
    q, scale = quantised(torch.zeros(4), E4M3, torch.tensor(0.0))
    assert torch.equal(q.float() * scale, torch.zeros(4))


@pytest.mark.parametrize("granularity", ["tensor", "row"])
@pytest.mark.parametrize("shape", [(32, 64, 48), (7, 33, 16), (1, 16, 32)], ids=str)
def test_the_emulation_is_torchs_scaled_product(granularity: str, shape: tuple[int, int, int]) -> None:
    """`torch._scaled_mm` on the same numbers, also where what is summed over is no multiple of 16."""
    m, k, n = shape
    a, b = torch.randn(m, k), torch.randn(n, k)
    for left in FORMATS:
        parts = [
            quantised(x, dtype, largest(x, granularity))  # type: ignore[arg-type]
            for x, dtype in ((a, left), (b, E4M3))
        ]
        ours, theirs = emulated(parts[0], parts[1], torch.bfloat16), native(parts[0], parts[1], torch.bfloat16)
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)
        exact = (parts[0][0].double() * parts[0][1]) @ (parts[1][0].double() * parts[1][1]).t()
        torch.testing.assert_close(emulated(parts[0], parts[1], torch.float32).double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("granularity", ["tensor", "row"])
def test_the_three_products(granularity: str) -> None:
    """Forward and both gradients equal products of what was quantised by hand, along what is summed over."""
    x, weight = torch.randn(2, 9, 32, requires_grad=True), torch.randn(48, 32, requires_grad=True)
    bias, grad = torch.randn(48, requires_grad=True), torch.randn(2, 9, 48)
    y = Float8(granularity)(x, weight, bias)  # type: ignore[arg-type]
    y.backward(grad)

    def q(x: Tensor, dtype: torch.dtype) -> Tensor:
        amax = x.abs().amax() if granularity == "tensor" else x.abs().amax(-1, keepdim=True)
        scale = amax / torch.finfo(dtype).max
        return (x / scale).to(dtype).float() * scale

    rows, g = x.detach().flatten(0, 1), grad.flatten(0, 1)
    w = weight.detach()
    torch.testing.assert_close(y.flatten(0, 1), q(rows, E4M3) @ q(w, E4M3).t() + bias, rtol=1e-4, atol=1e-4)
    assert x.grad is not None and weight.grad is not None and bias.grad is not None
    torch.testing.assert_close(x.grad.flatten(0, 1), q(g, E5M2) @ q(w.t(), E4M3).t(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(weight.grad, q(g.t(), E5M2) @ q(rows.t(), E4M3).t(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(bias.grad, g.sum(0))
    plain = x @ weight.t() + bias
    assert 0.01 < (y - plain).norm() / plain.norm() < 0.06  # it is 8 bits, and no worse


def test_without_a_gradient_nothing_is_quantised() -> None:
    x, weight = torch.randn(4, 32), torch.randn(16, 32, requires_grad=True)
    with torch.no_grad():
        assert torch.equal(Float8()(x, weight), x @ weight.t())


def test_autocast_says_the_format_of_the_result() -> None:
    x, weight = torch.randn(4, 32), torch.randn(16, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = Float8()(x, weight)
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32


def test_delayed_scales_come_from_the_steps_before() -> None:
    """The scale of a step is the largest number of the last steps; a refused one leaves no trace."""
    product = Float8("tensor", history=2)
    weight = torch.eye(16).requires_grad_()

    def step(size: float, keep: bool = True) -> float:
        x = torch.full((1, 16), 1.0)
        x[0, 0] = size
        out: float = product(x, weight)[0, 0].item()
        product.roll(keep=keep)
        return round(out, 4)

    assert step(4.0) == 4.0  # nothing is known yet: its own largest number
    assert step(8.0) == 4.0  # held at what was known
    assert step(16.0) == 8.0
    assert step(1.0) == 1.0
    assert step(64.0) == 16.0  # two steps back: the 16
    assert math.isnan(step(math.inf, keep=False))
    assert step(128.0) == 64.0
    assert [len(past) for past in product.past.values()] == [2, 2]
