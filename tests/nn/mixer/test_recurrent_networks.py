"""RNN, LSTM and GRU against `torch.nn`, weight by weight, and their fast forms against their plain ones."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hanok.core.errors import UsageError
from hanok.model.config import BlockConfig
from hanok.nn.context import Dense
from hanok.nn.mixer import MIXERS
from hanok.nn.recurrent import Cell
from hanok.ops.numerics import numerics
from hanok.ops.recurrent import elman, elman_reference, gru, gru_reference, lstm, lstm_reference

THEIRS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
KINDS = tuple(THEIRS)
VARIANTS: list[tuple[str, dict[str, Any]]] = [(kind, {}) for kind in KINDS]
VARIANTS += [("rnn", {"activation": "relu"}), ("lstm", {"bias": False}), ("gru", {"bias": False})]


def pair(kind: str, dim: int, width: int, dtype: torch.dtype, *, bias: bool = True, **more: Any) -> tuple[Cell, Any]:
    """Return our mixer, without the way back to the model's width, and torch's layer with the same weights."""
    spec = {"kind": kind, "width": width, "bias": "all" if bias else "none"} | more
    ours: Cell = MIXERS[kind](MIXERS[kind].Config.parse(spec), dim, 0).to(dtype)
    ours.out = None
    extra = {"nonlinearity": more["activation"]} if "activation" in more else {}
    theirs = THEIRS[kind](dim, width, batch_first=True, bias=bias, **extra).to(dtype)
    names = {"input.weight": "weight_ih_l0", "hidden.weight": "weight_hh_l0"}
    if bias:
        names |= {"input.bias": "bias_ih_l0", "hidden.bias": "bias_hh_l0"}
    with torch.no_grad():
        for our_name, their_name in names.items():
            ours.get_parameter(our_name).copy_(theirs.get_parameter(their_name))
    return ours, theirs


def dense(x: Tensor) -> Dense:
    return Dense(torch.zeros(x.shape[:2], dtype=torch.int64))


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize(("kind", "more"), VARIANTS)
def test_equals_torch(kind: str, more: dict[str, Any], dtype: torch.dtype, bound: float, mode: str) -> None:
    """Outputs, and gradients of the inputs and of every weight."""
    for dim, width in ((7, 13), (32, 32)):
        ours, theirs = pair(kind, dim, width, dtype, **more)
        x, weight = torch.randn(3, 33, dim, dtype=dtype), torch.randn(3, 33, width, dtype=dtype)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        with numerics(mode):
            got = ours(a, dense(x))
            got.backward(weight)
        want, _ = theirs(b)
        want.backward(weight)
        assert (got - want).abs().max() <= bound
        torch.testing.assert_close(a.grad, b.grad, rtol=100 * bound, atol=100 * bound)
        for mine, its in zip(ours.parameters(), (theirs.weight_ih_l0, *rest(theirs)), strict=True):
            torch.testing.assert_close(mine.grad, its.grad, rtol=100 * bound, atol=100 * bound)


def rest(theirs: Any) -> list[Tensor]:
    """Return torch's other parameters in the order of ours: input bias, hidden weight, hidden bias."""
    if not theirs.bias:
        return [theirs.weight_hh_l0]
    return [theirs.bias_ih_l0, theirs.weight_hh_l0, theirs.bias_hh_l0]


def test_the_orders_of_gates_matter() -> None:
    """Control arm: with the gates of the LSTM in another order the comparison fails."""
    ours, theirs = pair("lstm", 8, 8, torch.float64)
    with torch.no_grad():
        ours.input.weight.copy_(ours.input.weight.roll(8, 0))
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    assert (ours(x, dense(x)) - theirs(x)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_state_carries_over(kind: str) -> None:
    """Chunks joined by their state equal one chunk, and the state is the one torch ends with."""
    ours, theirs = pair(kind, 5, 6, torch.float64)
    x = torch.randn(2, 20, 5, dtype=torch.float64)
    whole, end = theirs(x)
    state = torch.zeros(2, *ours.memory().shape, dtype=torch.float64)
    parts = []
    for part in x.split((1, 7, 1, 11), 1):
        y, state = ours._chunk(ours.input(part), state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-12, atol=1e-12)
    ends = torch.stack(end if kind == "lstm" else (end,), 2)[0]
    torch.testing.assert_close(state, ends, rtol=1e-12, atol=1e-12)


def make(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]


def test_gradients_are_derivatives() -> None:
    for activation in ("tanh", "relu"):
        inputs = make((2, 5, 3), (2, 3), (3, 3))
        assert torch.autograd.gradcheck(lambda *x, f=activation: elman(*x, f), inputs)
    assert torch.autograd.gradcheck(lstm, make((2, 5, 12), (2, 3), (2, 3), (12, 3)))
    assert torch.autograd.gradcheck(gru, make((2, 5, 9), (2, 3), (9, 3), (3,)))


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_fast_forms_equal_plain_loops(mode: str) -> None:
    """Values and gradients; in exact numerics the gradient is the fast form's."""
    cases = [
        (elman, elman_reference, make((2, 17, 5), (2, 5), (5, 5)), ("tanh",)),
        (elman, elman_reference, make((2, 17, 5), (2, 5), (5, 5)), ("relu",)),
        (lstm, lstm_reference, make((2, 17, 20), (2, 5), (2, 5), (20, 5)), ()),
        (gru, gru_reference, make((2, 17, 15), (2, 5), (15, 5), (5,)), ()),
    ]
    for fast, plain, inputs, more in cases:
        want = plain(*inputs, *more)
        with numerics(mode):
            got = fast(*inputs, *more)
            a = torch.autograd.grad(total(got), inputs)
        for g, w in zip(a, torch.autograd.grad(total(want), inputs), strict=True):
            torch.testing.assert_close(g, w, rtol=1e-11, atol=1e-12)


def total(outputs: Any) -> Tensor:
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return sum((y * torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum() for y in outputs)


def test_open_forget_gates() -> None:
    mixer: Any = MIXERS["lstm"](MIXERS["lstm"].Config(), 6, 0)
    mixer.reset(torch.Generator())
    assert mixer.input.bias.tolist() == [0.0] * 6 + [1.0] * 6 + [0.0] * 12


@pytest.mark.parametrize("kind", KINDS)
def test_width_and_projection(kind: str) -> None:
    ffn = {"kind": "swiglu"}
    block = BlockConfig.parse({"mixer": {"kind": kind}, "ffn": ffn}).resolve(24)
    assert (block.mixer.width, block.mixer.project) == (24, "none")
    block = BlockConfig.parse({"mixer": {"kind": kind, "width": 10}, "ffn": ffn}).resolve(24)
    assert (block.mixer.width, block.mixer.project) == (10, "linear")
    with pytest.raises((ValueError, UsageError), match="project: linear"):
        MIXERS[kind].Config.parse({"kind": kind, "width": 10, "project": "none"}).resolve(24)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_speed_is_near_torchs(kind: str) -> None:
    """Forward and backward at the size of a small language model take at most three times as long as `torch.nn`'s."""
    ours, theirs = pair(kind, 128, 128, torch.float32)
    x = torch.randn(8, 128, 128, requires_grad=True)

    def once(run: Any) -> float:
        start = time.perf_counter()
        run().square().mean().backward()
        return time.perf_counter() - start

    mine, its = (min(once(run) for _ in range(10)) for run in (lambda: ours(x, dense(x)), lambda: theirs(x)[0]))
    assert mine < 3 * its, f"{kind}: {1e3 * mine:.1f} ms against {1e3 * its:.1f} ms"
