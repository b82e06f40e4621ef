"""How far back a gradient reaches: |d h_T / d x_(T-k)| over k for an Elman network, a GRU and an LSTM."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.nn.context import Dense
from hanok.nn.mixer import MIXERS


def reach(mixer: Any, x_BTD: Tensor) -> Tensor:
    """Return the norm of the gradient that a random direction of the last output sends to each input, by distance."""
    x = x_BTD.clone().requires_grad_()
    y = mixer(x, Dense(torch.zeros(x.shape[:2], dtype=torch.int64)))[:, -1]
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    (grad,) = torch.autograd.grad((y * direction).sum(), x)
    return grad.norm(dim=-1).mean(0).flip(0)


def build(kind: str, width: int = 48) -> Any:
    """Return a layer whose weights start as in `torch.nn`, uniform within 1 / sqrt(width), and open LSTM gates."""
    generator = torch.Generator().manual_seed(3)
    mixer = MIXERS[kind](MIXERS[kind].Config(), width, 0).double()
    with torch.no_grad():
        for name, parameter in mixer.named_parameters():
            if name.endswith("weight"):
                start = torch.empty(parameter.shape, dtype=parameter.dtype)
                parameter.copy_(start.uniform_(-(width**-0.5), width**-0.5, generator=generator))
    if kind == "lstm":
        mixer.reset(generator)
    return mixer


@pytest.fixture(scope="module")
def curves() -> dict[str, Tensor]:
    x = torch.randn(4, 41, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return {kind: reach(build(kind), x) for kind in ("rnn", "gru", "lstm")}


def rate(curve: Tensor) -> float:
    """Return the factor by which the gradient changes per step back, from a line through its logarithm."""
    k = torch.arange(5, len(curve), dtype=curve.dtype)
    logs = curve[5:].log()
    slope = ((k - k.mean()) * (logs - logs.mean())).sum() / ((k - k.mean()) ** 2).sum()
    return float(slope.exp())


def test_elman_networks_forget_exponentially(curves: dict[str, Tensor]) -> None:
    """A straight line in the logarithm: every step back multiplies the gradient by about the same number below one."""
    factor = rate(curves["rnn"])
    assert factor < 0.65
    k = torch.arange(5, 41, dtype=torch.float64)
    line = curves["rnn"][5:].log() - k * torch.tensor(factor, dtype=torch.float64).log()
    assert line.std() < 1.0


def test_gates_carry_gradients_further(curves: dict[str, Tensor]) -> None:
    assert rate(curves["rnn"]) < rate(curves["gru"]) < 1 and rate(curves["rnn"]) < rate(curves["lstm"]) < 1
    for kind in ("gru", "lstm"):
        lasting = curves[kind][30] / curves[kind][0]
        assert lasting > 1e3 * curves["rnn"][30] / curves["rnn"][0], kind


def test_a_forget_gate_near_one_keeps_a_gradient_alive() -> None:
    """The cell's way back is a product of forget gates: with a bias of 6 (0.9975) 40 steps cost less than half."""
    mixer = build("lstm")
    with torch.no_grad():
        mixer.input.weight.zero_(), mixer.hidden.weight.zero_()
        mixer.input.weight[96:144].copy_(torch.eye(48))  # the candidate alone sees the input
        mixer.input.bias[48:96] = 6.0
    curve = reach(mixer, torch.randn(1, 41, 48, dtype=torch.float64) * 0.1)
    assert 0.5 < curve[40] / curve[1] < 1.5


def test_large_weights_explode() -> None:
    mixer = build("rnn")
    with torch.no_grad():
        mixer.hidden.weight.copy_(1.3 * torch.eye(48))
    curve = reach(mixer, torch.randn(1, 41, 48, dtype=torch.float64) * 1e-6)
    assert rate(curve) == pytest.approx(1.3, rel=1e-3)
