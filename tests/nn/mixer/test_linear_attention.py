"""Linear attention and retention: the recurrence, the chunks and the quadratic form are one function."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.model.config import BlockConfig
from hanok.nn.context import Dense
from hanok.nn.mixer import MIXERS
from hanok.ops.linear_attention import CHUNK, chunked, linear_attention, steps
from hanok.ops.numerics import numerics

DECAYS = (1.0, 0.9, 0.25)


def inputs(length: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Return q, k (2,T,3,5), v (2,T,3,4) and a state (2,3,4,5)."""
    q, k, v = (torch.randn(2, length, 3, size, dtype=dtype) for size in (5, 5, 4))
    return [q, k, v, torch.randn(2, 3, 4, 5, dtype=dtype)]


def quadratic(q: Tensor, k: Tensor, v: Tensor, state: Tensor, decay: tuple[float, ...]) -> Tensor:
    """Return the parallel form of RetNet's equation 5, (Q K^T * D) V, with the state's part added."""
    at = torch.arange(q.shape[1])
    distance = at[:, None] - at
    kept = torch.tensor(decay, dtype=q.dtype)[:, None, None]
    table = torch.where(distance >= 0, kept ** distance.clamp_min(0), 0.0)
    near = torch.einsum("bthd,bshd,hts,bshe->bthe", q, k, table, v)
    return near + torch.einsum("bthd,bhed,th->bthe", q, state, kept[:, 0, 0] ** (at[:, None] + 1))


@pytest.mark.parametrize("length", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_three_forms_agree(length: int) -> None:
    x = inputs(length)
    decay = torch.tensor(DECAYS, dtype=torch.float64)
    want, end = steps(x[0], x[1], x[2], x[3], decay)
    got, after = chunked(x[0], x[1], x[2], x[3], decay)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(after, end, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(quadratic(x[0], x[1], x[2], x[3], DECAYS), want, rtol=1e-10, atol=1e-10)


def test_gradients() -> None:
    decay = torch.tensor(DECAYS, dtype=torch.float64)
    x = [t.requires_grad_() for t in inputs(5)]
    assert torch.autograd.gradcheck(lambda *t: chunked(*t, decay, chunk=2), x)
    weight = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    found = []
    for mode in ("fast", "exact"):
        with numerics(mode):
            y, state = linear_attention(x[0], x[1], x[2], x[3], DECAYS)
            found.append(torch.autograd.grad((y * weight).sum() + state.square().sum(), x))
    plain, end = steps(*x, decay)
    found.append(torch.autograd.grad((plain * weight).sum() + end.square().sum(), x))
    for a, b, c in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(a, c, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("decay", [1.0, 0.999, 0.5, 1e-3, 1e-30])
def test_long_sequences_stay_stable(decay: float) -> None:
    """2,048 tokens in float32: within rounding of float64, however fast or slowly the past fades."""
    x = inputs(2048, torch.float32)
    got, state = linear_attention(*x, (decay,) * 3)
    want, end = linear_attention(*(t.double() for t in x), (decay,) * 3)
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()
    assert (state - end).abs().max() <= 1e-5 * end.abs().max()


def mixer(kind: str, **spec: Any) -> Any:
    torch.manual_seed(1)
    made = MIXERS[kind](MIXERS[kind].Config.parse({"kind": kind, **spec}), 24, 0).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_linear_attention_is_a_weighted_mean() -> None:
    """y_t = sum of f(q_t) f(k_s) v_s over the sum of the weights, written out for one head."""
    made = mixer("linear_attention", heads=1, head_dim=6, value_dim=3)
    made.o = torch.nn.Identity()
    x = torch.randn(1, 70, 24, dtype=torch.float64)
    got = made(x, Dense(torch.zeros(1, 70, dtype=torch.int64)))[0]
    q, k = (torch.where(t > 0, t + 1, t.exp()) for t in (made.q(x)[0], made.k(x)[0]))
    weight = (q @ k.T).tril()
    want = weight / weight.sum(-1, keepdim=True) @ made.v(x)[0]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)  # the mixer adds 1e-6 to the denominator
    assert (got.amax(0) <= made.v(x)[0].amax(0)).all(), "a mean lies among its values"


def test_retention_is_its_formula() -> None:
    """Equations 5 and 8 of the paper, without rotation, written out head by head."""
    made = mixer("retention", heads=2, head_dim=6, value_dim=5, position="none")
    x = torch.randn(1, 90, 24, dtype=torch.float64)
    got = made(x, Dense(torch.zeros(1, 90, dtype=torch.int64)))[0]
    at = torch.arange(90)
    heads = []
    for head, gamma in enumerate((1 - 2**-5, 1 - 2**-6)):
        q, k, v = (part(x)[0].unflatten(-1, (2, -1))[:, head] for part in (made.q, made.k, made.v))
        fade = (gamma ** (at[:, None] - at).clamp_min(0).double()).tril()
        heads.append(torch.nn.functional.group_norm((q @ k.T * 6**-0.5 * fade) @ v, 1, eps=1e-6))
    gate = made.gate(x)[0]
    want = made.o(gate * gate.sigmoid() * torch.cat(heads, -1))
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def test_a_bias_on_scores_that_do_not_exist_is_refused() -> None:
    with pytest.raises((ValueError, UsageError), match="no scores"):
        mixer("retention", heads=2, position="alibi")


def test_retention_sees_distances_alone() -> None:
    """The rotation turns queries and keys alike: moving all positions changes nothing."""
    made = mixer("retention", heads=2)
    x, tokens = torch.randn(2, 30, 24, dtype=torch.float64), torch.zeros(2, 30, dtype=torch.int64)
    at = torch.arange(30).expand(2, -1)
    # RoPE's angles are float32 numbers, as in published models.
    torch.testing.assert_close(made(x, Dense(tokens, at)), made(x, Dense(tokens, at + 500)), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(made(x, Dense(tokens, at)), made(x, Dense(tokens, at * 2)), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", ["linear_attention", "retention"])
def test_sizes(kind: str) -> None:
    block = BlockConfig.parse({"mixer": {"kind": kind, "heads": 3}, "ffn": {"kind": "swiglu"}}).resolve(24)
    assert (block.mixer.head_dim, block.mixer.value_dim) == (8, {"linear_attention": 8, "retention": 16}[kind])
    with pytest.raises((ValueError, UsageError), match="multiple of heads"):
        MIXERS[kind].Config.parse({"kind": kind, "heads": 5}).resolve(24)
