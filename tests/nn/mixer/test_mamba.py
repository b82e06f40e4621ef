"""Mamba against transformers' mixers with the same weights, its state's size, and its starting weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import JambaConfig, MambaConfig
from transformers.models.jamba.modeling_jamba import JambaMambaMixer
from transformers.models.mamba.modeling_mamba import MambaMixer

from hanok.nn.context import Dense
from hanok.nn.mixer.mamba import Mamba
from hanok.ops.numerics import numerics

NAMES = {
    "in_proj.weight": "in_proj.weight",
    "in_proj.bias": "in_proj.bias",
    "conv_weight": "conv1d.weight",
    "conv_bias": "conv1d.bias",
    "x_proj.weight": "x_proj.weight",
    "dt_proj.weight": "dt_proj.weight",
    "dt_bias": "dt_proj.bias",
    "A_log": "A_log",
    "D": "D",
    "out.weight": "out_proj.weight",
    "out.bias": "out_proj.bias",
    "dt_norm.weight": "dt_layernorm.weight",
    "b_norm.weight": "b_layernorm.weight",
    "c_norm.weight": "c_layernorm.weight",
}
# dim, our spec, their configuration
PAIRS: list[tuple[int, dict[str, Any], Any]] = [
    (32, {}, MambaConfig(hidden_size=32)),
    (
        33,
        {"width": 66, "state": 5, "conv": 3, "rank": 7, "bias": "all"},
        MambaConfig(hidden_size=33, state_size=5, conv_kernel=3, time_step_rank=7, use_bias=True),
    ),
    (
        24,
        {"width": 72, "bias": "none"},
        MambaConfig(hidden_size=24, expand=3, use_conv_bias=False),
    ),
    (
        40,
        {"state": 6, "norm": {"kind": "rmsnorm", "eps": 1e-5}},
        JambaConfig(hidden_size=40, mamba_d_state=6, rms_norm_eps=1e-5),
    ),
]


def build(spec: dict[str, Any], dim: int, dtype: torch.dtype = torch.float32) -> Mamba:
    return Mamba(Mamba.Config.parse(spec), dim, 0).to(dtype)


def pair(dim: int, spec: dict[str, Any], config: Any, dtype: torch.dtype) -> tuple[Mamba, nn.Module]:
    """Return our mixer and theirs with the same random weights."""
    theirs: nn.Module = (JambaMambaMixer if isinstance(config, JambaConfig) else MambaMixer)(config, 0)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if "norm" in name or name == "D" else 0.1))
    ours, theirs = build(spec, dim, dtype), theirs.to(dtype).eval()
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(theirs.get_parameter(NAMES[name]))
    assert len(list(ours.parameters())) == len(list(theirs.parameters()))
    return ours, theirs


def dense(x: Tensor) -> Dense:
    return Dense(torch.zeros(x.shape[:2], dtype=torch.int64))


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize(("dim", "spec", "config"), PAIRS, ids=lambda value: str(value)[:60].split("{")[0])
def test_equals_transformers(dim: int, spec: dict[str, Any], config: Any, mode: str) -> None:
    """Outputs, and the gradients of the input and of every weight."""
    ours, theirs = pair(dim, spec, config, torch.float32)
    x, weight = torch.randn(2, 3, 70, dim)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    with numerics(mode):
        got = ours(a, dense(a))
        (got * weight).sum().backward()
    want = theirs(b)
    (want * weight).sum().backward()
    assert want.abs().max() > 0.1
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(NAMES[name]).grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("dim", "spec", "config"), PAIRS[:3], ids=["default", "odd", "unbiased"])
@torch.no_grad()
def test_equals_transformers_in_float64(
    dim: int, spec: dict[str, Any], config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their slow path goes through `Tensor.float`, which is made to keep the precision."""
    ours, theirs = pair(dim, spec, config, torch.float64)
    x = torch.randn(3, 100, dim, dtype=torch.float64)
    rounded = theirs(x)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    want = theirs(x)
    assert (want - rounded).abs().max() > 1e-10, "their slow path no longer rounds: drop the patch"
    torch.testing.assert_close(ours(x, dense(x)), want, rtol=0, atol=1e-9)


def test_the_gate_and_the_input_are_not_exchanged() -> None:
    """Control arm: with the halves of the first projection exchanged the comparison fails."""
    ours, theirs = pair(*PAIRS[0], torch.float32)
    with torch.no_grad():
        ours.in_proj.weight.copy_(ours.in_proj.weight.roll(64, 0))
    x = torch.randn(2, 20, 32)
    assert (ours(x, dense(x)) - theirs(x)).abs().max() > 1e-3


@torch.no_grad()
def test_the_state_has_the_published_size() -> None:
    """130M: d_inner 1536 with d_state 16, and d_conv - 1 = 3 inputs of the convolution."""
    memory = build({}, 768).memory()
    assert memory.shape == (1536 * 16 + 1536 * 3,) and memory.dtype == torch.float32
    assert build({}, 768, torch.bfloat16).memory().dtype == torch.float32


def test_flops_are_those_of_the_recurrence() -> None:
    mixer = build({"state": 16, "conv": 4}, 64)
    assert mixer.mixing_flops(1) == mixer.mixing_flops(10**6) == 128 * (7 * 16 + 2 * 4 + 4)


@torch.no_grad()
def test_starting_weights_are_the_published_ones() -> None:
    mixer = build({}, 512)
    mixer.reset(torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, 17.0).expand(1024, 16))
    dt = nn.functional.softplus(mixer.dt_bias).log10()
    assert dt.min() >= -3.001 and dt.max() <= -0.999
    assert abs(dt.mean() + 2) < 0.06 and abs(dt.std() - 2 / 12**0.5) < 0.04  # log-uniform
    assert mixer.D.eq(1).all() and mixer.conv_weight.abs().max() <= 0.5 and 0.27 < mixer.conv_weight.std() < 0.31


@torch.no_grad()
def test_a_late_token_remembers_an_early_one() -> None:
    mixer = build({"step": (1e-3, 2e-3)}, 16, torch.float64)
    for parameter in mixer.parameters():
        parameter.normal_(0, 0.3)
    mixer.reset(torch.Generator().manual_seed(0))
    x = torch.randn(1, 200, 16, dtype=torch.float64)
    y = x.clone()
    y[:, 0] += 1
    assert (mixer(x, dense(x)) - mixer(y, dense(y)))[:, -1].abs().max() > 1e-9
