"""The block form of the gated delta rule against its definition, its gradient, its bits and its digits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.ops import delta_rule as module
from hanok.ops.delta_rule import delta_rule_reference, gated_delta_rule
from hanok.ops.numerics import numerics

SHAPES = [(1, 2, 3, 4), (64, 1, 4, 4), (65, 2, 5, 3), (150, 3, 2, 7)]  # tokens, heads, sizes of key and value
Shape = tuple[int, int, int, int]


def make(shape: Shape, batch: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    length, heads, size, value = shape
    q, k = F.normalize(torch.randn(2, batch, length, heads, size, dtype=dtype), dim=-1)
    v = torch.randn(batch, length, heads, value, dtype=dtype)
    log_decay, beta = torch.rand(2, batch, length, heads, dtype=dtype)
    return [q, k, v, -log_decay, beta, torch.randn(batch, heads, size, value, dtype=dtype)]


def by_matrices(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """S_t = a_t (I - beta_t k_t k_t^T) S_(t-1) + beta_t k_t v_t^T, as it is printed."""
    out, one = [], torch.eye(k.shape[-1], dtype=k.dtype)
    for t in range(q.shape[1]):
        key, b = k[:, t, :, :, None], beta[:, t, :, None, None]
        s = log_decay[:, t, :, None, None].exp() * ((one - b * key @ key.mT) @ s) + b * key @ v[:, t, :, None]
        out.append((s.mT @ q[:, t, :, :, None])[..., 0])
    return torch.stack(out, 1), s


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blocks_equal_the_definition(shape: Shape, mode: str) -> None:
    inputs = [x.requires_grad_() for x in make(shape)]
    want = by_matrices(*inputs)
    with numerics(mode):
        got = gated_delta_rule(*inputs)
    weights = [torch.randn_like(y) for y in want]
    for form in (got, delta_rule_reference(*inputs)):
        for a, b in zip(form, want, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    for a, b in zip(torch.autograd.grad(got, inputs, weights), torch.autograd.grad(want, inputs, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_gradient(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 3)
    with numerics(mode):
        assert torch.autograd.gradcheck(gated_delta_rule, tuple(x.requires_grad_() for x in make((7, 2, 2, 3), 1)))


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_exact_bits_ignore_chunks_and_batch(shape: Shape) -> None:
    *tokens, s = make(shape, 5, torch.float32)
    with numerics("exact"):
        whole, last = gated_delta_rule(*tokens, s)
        for row, cut in ((0, 1), (3, 7), (4, 33)):
            r = slice(row, row + 1)
            first, middle = gated_delta_rule(*(x[r, :cut] for x in tokens), s[r])
            second, end = gated_delta_rule(*(x[r, cut:] for x in tokens), middle)
            assert torch.equal(torch.cat((first, second), 1), whole[r]) and torch.equal(end, last[r])


def test_digits_over_a_long_sequence() -> None:
    """T = 4096 in float32 keeps to the float64 result, also where nothing fades and keys repeat."""
    q, k, v, log_decay, beta, s = make((4096, 3, 4, 3), 1)
    log_decay = log_decay * torch.tensor([0.0, 1e-3, 50.0], dtype=torch.float64)
    k[:, :, 0] = k[:, :1, 0]  # one key all the way
    want, _ = delta_rule_reference(q, k, v, log_decay, beta, s)
    got, _ = gated_delta_rule(*(t.float() for t in (q, k, v, log_decay, beta, s)))
    assert got.isfinite().all()
    error = (got.double() - want).abs().amax((0, 1, 3)) / want.abs().amax((0, 1, 3))
    assert error.max() < 2e-5


def test_a_key_written_twice_holds_the_second_value() -> None:
    k = torch.tensor([0.6, 0.8]).expand(1, 2, 1, 2)
    v = torch.tensor([[1.0, 2.0], [5.0, -1.0]])[None, :, None]
    for mode in ("fast", "exact"):
        with numerics(mode):
            o, _ = gated_delta_rule(k, k, v, torch.zeros(1, 2, 1), torch.ones(1, 2, 1), torch.zeros(1, 1, 2, 2))
        torch.testing.assert_close(o, v)
