"""Fast paths against their plain references, and the promise of exact numerics row by row."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.ops.attention import causal_see, exact_whole_attention, plain_attention, reference_attention
from hanok.ops.matmul import linear
from hanok.ops.norm import rms_norm, rms_norm_reference
from hanok.ops.numerics import current, elementwise, numerics
from hanok.ops.rope import rotate
from hanok.ops.scan import linear_scan

SHAPES = [(4, 2, 32, None), (4, 4, 16, 5), (6, 1, 24, None), (8, 2, 32, 40), (3, 3, 7, None), (32, 1, 8, None)]
DTYPES = [torch.float32, torch.bfloat16]


def make(heads: int, kv_heads: int, d: int, t: int = 77) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(2, t, heads, d), torch.randn(2, t, kv_heads, d), torch.randn(2, t, kv_heads, d + 1)


@pytest.mark.parametrize(("heads", "kv_heads", "d", "window"), SHAPES)
def test_attention_equals_its_definition(heads: int, kv_heads: int, d: int, window: int | None) -> None:
    q, k, v = make(heads, kv_heads, d)
    at = torch.arange(77)
    see = causal_see(at, at, window)[None]
    want = reference_attention(q, k, v, see, d**-0.5)
    torch.testing.assert_close(plain_attention(q, k, v, see, d**-0.5), want)
    torch.testing.assert_close(exact_whole_attention((q, k, v), d**-0.5, window), want)
    if window is None:
        torch.testing.assert_close(plain_attention(q, k, v, None, d**-0.5), want)


@pytest.mark.parametrize("windowed", [False, True])
def test_attention_spelt_out_is_the_fused_one(windowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [x.bfloat16().requires_grad_() for x in make(4, 2, 16)]
    at = torch.arange(77)
    see = causal_see(at, at, 9)[None] if windowed else None
    found = []
    for spells in (False, True):
        monkeypatch.setattr("hanok.ops.attention._spells", lambda device, spells=spells: spells)
        out = plain_attention(inputs[0], inputs[1], inputs[2], see, 0.25)
        found.append((out, *torch.autograd.grad(out.float().square().sum(), inputs)))
    assert not torch.equal(found[0][0], found[1][0]), "two ways"
    for fused, spelt in zip(*found, strict=True):
        torch.testing.assert_close(fused, spelt, rtol=0.05, atol=0.05)


def test_long_sequences() -> None:
    q, k, v = make(4, 2, 8, 1500)
    at = torch.arange(1500)
    want = reference_attention(q, k, v, causal_see(at, at, None)[None], 0.3)
    torch.testing.assert_close(plain_attention(q, k, v, None, 0.3), want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(exact_whole_attention((q, k, v), 0.3), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("heads", "kv_heads", "d", "window"), SHAPES)
def test_exact_attention_ignores_the_rest_of_the_batch(
    heads: int, kv_heads: int, d: int, window: int | None, dtype: torch.dtype
) -> None:
    q, k, v = (x.to(dtype) for x in make(heads, kv_heads, d))
    whole = exact_whole_attention((q, k, v), d**-0.5, window)
    for length in (1, 16, 33, 50):
        alone = exact_whole_attention((q[1:, :length], k[1:, :length], v[1:, :length]), d**-0.5, window)
        assert torch.equal(alone, whole[1:, :length])


@pytest.mark.parametrize("window", [None, 6])
def test_exact_attention_has_plain_attentions_gradient(window: int | None) -> None:
    inputs = [x.double().requires_grad_() for x in make(4, 2, 8, 20)]
    at = torch.arange(20)
    exact = exact_whole_attention((inputs[0], inputs[1], inputs[2]), 0.3, window)
    plain = plain_attention(inputs[0], inputs[1], inputs[2], causal_see(at, at, window)[None], 0.3)
    weight = torch.randn_like(plain)
    for a, b in zip(
        torch.autograd.grad(exact, inputs, weight), torch.autograd.grad(plain, inputs, weight), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("k", "n"), [(128, 128), (37, 96), (96, 37), (192, 512), (33, 65)])
def test_exact_linear_ignores_the_rest_of_the_batch(k: int, n: int, dtype: torch.dtype) -> None:
    x, weight, bias = torch.randn(200, k).to(dtype), torch.randn(n, k).to(dtype), torch.randn(n).to(dtype)
    with numerics("exact"):
        whole = linear(x, weight, bias)
        for start, stop in ((0, 1), (5, 6), (7, 40), (31, 33), (100, 200)):
            assert torch.equal(linear(x[start:stop], weight, bias), whole[start:stop])
    torch.testing.assert_close(
        whole,
        F.linear(x, weight, bias),
        rtol=2e-2 if dtype == torch.bfloat16 else 1e-5,
        atol=0.3 if dtype == torch.bfloat16 else 1e-4,
    )


def test_fast_linear_is_the_control() -> None:
    x, weight = torch.randn(64, 512), torch.randn(512, 512)
    assert not torch.equal(linear(x[:1], weight), linear(x, weight)[:1]), (
        "the library's kernel no longer depends on the batch"
    )


def test_exact_linear_gradient() -> None:
    x, weight = (
        torch.randn(50, 7, dtype=torch.float64).requires_grad_(),
        torch.randn(5, 7, dtype=torch.float64).requires_grad_(),
    )
    with numerics("exact"):
        assert torch.autograd.gradcheck(linear, (x, weight))


@pytest.mark.parametrize("function", [F.silu, F.gelu, torch.exp, torch.sigmoid, F.softplus], ids=lambda f: f.__name__)
def test_exact_elementwise_ignores_the_neighbours(function: object) -> None:
    x = torch.randn(5000, 37)
    with numerics("exact"):
        whole = elementwise(function, x)  # type: ignore[arg-type]
        for start, stop in ((0, 1), (3, 5), (17, 3000)):
            assert torch.equal(elementwise(function, x[start:stop]), whole[start:stop])  # type: ignore[arg-type]


@pytest.mark.parametrize("d", [8, 37, 96, 320])
def test_rms_norm(d: int) -> None:
    x, weight = torch.randn(300, d), torch.randn(d)
    want = x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight
    torch.testing.assert_close(rms_norm(x, weight, 1e-6), want)
    with numerics("exact"):
        whole = rms_norm(x, weight, 1e-6)
        assert torch.equal(rms_norm(x[7:8], weight, 1e-6), whole[7:8]) and torch.equal(
            whole, rms_norm_reference(x, weight, 1e-6)
        )


def test_rope_is_a_rotation_that_sees_distances() -> None:
    x = torch.randn(2, 9, 3, 8, dtype=torch.float64)
    angle = torch.arange(9)[None, :, None] * torch.rand(4, dtype=torch.float64)
    y = rotate(x, angle.cos(), angle.sin())
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1))
    as_complex = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones_like(angle), angle)[:, :, None]
    torch.testing.assert_close(y, torch.cat((as_complex.real, as_complex.imag), -1))
    assert torch.autograd.gradcheck(lambda t: rotate(t, angle.cos(), angle.sin()), x.requires_grad_())


def test_scan_equals_its_definition_and_its_chunks() -> None:
    a, b, h = (torch.rand(2, 11, 3), torch.randn(2, 11, 3), torch.randn(2, 3))
    state, want = h, []
    for t in range(11):
        state = a[:, t] * state + b[:, t]
        want.append(state)
    whole = linear_scan(a, b, h)
    assert torch.equal(whole, torch.stack(want, 1))
    first = linear_scan(a[:, :4], b[:, :4], h)
    assert torch.equal(linear_scan(a[:, 4:], b[:, 4:], first[:, -1]), whole[:, 4:])
    assert torch.autograd.gradcheck(linear_scan, tuple(x.double().requires_grad_() for x in (a, b, h)))


def test_numerics_are_scoped_and_checked() -> None:
    with numerics("exact"):
        with numerics("fast"):
            assert current() == "fast"
        assert current() == "exact"
    assert current() == "fast"
    with pytest.raises(UsageError, match="did you mean 'exact'"), numerics("exat"):
        pass
