"""Mamba-2 against transformers' mixer with the same weights, its state's size, and its starting weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer, mamba2_chunk_scan

from hanok.core.errors import UsageError
from hanok.model.config import BlockConfig
from hanok.nn.context import Dense
from hanok.nn.mixer.mamba2 import Mamba2
from hanok.ops.numerics import numerics
from hanok.ops.ssd import ssd

NAMES = {
    "in_proj.weight": "in_proj.weight",
    "in_proj.bias": "in_proj.bias",
    "conv_weight": "conv1d.weight",
    "conv_bias": "conv1d.bias",
    "dt_bias": "dt_bias",
    "A_log": "A_log",
    "D": "D",
    "norm_weight": "norm.weight",
    "out.weight": "out_proj.weight",
    "out.bias": "out_proj.bias",
}
# dim, our spec, theirs
PAIRS: list[tuple[int, dict[str, Any], dict[str, Any]]] = [
    (
        32,
        {"head_dim": 16, "state": 32},
        {"head_dim": 16, "num_heads": 4, "state_size": 32, "n_groups": 1, "chunk_size": 32},
    ),
    (
        30,
        {"head_dim": 10, "groups": 3, "state": 7, "conv": 3, "bias": "all", "eps": 1e-3, "limit": [0.01, 0.6]},
        {
            "head_dim": 10,
            "num_heads": 6,
            "n_groups": 3,
            "state_size": 7,
            "conv_kernel": 3,
            "use_bias": True,
            "layer_norm_epsilon": 1e-3,
            "time_step_limit": (0.01, 0.6),
        },
    ),
    (
        24,
        {"width": 72, "head_dim": 9, "groups": 2, "state": 5, "bias": "none"},
        {"head_dim": 9, "num_heads": 8, "n_groups": 2, "state_size": 5, "expand": 3, "use_conv_bias": False},
    ),
]


def build(spec: dict[str, Any], dim: int, dtype: torch.dtype = torch.float32) -> Mamba2:
    return Mamba2(Mamba2.Config.parse(spec), dim, 0).to(dtype)


def pair(dim: int, spec: dict[str, Any], config: dict[str, Any]) -> tuple[Mamba2, nn.Module]:
    """Return our mixer and theirs with the same random weights."""
    theirs: nn.Module = Mamba2Mixer(Mamba2Config(hidden_size=dim, **config), 0).eval()
    ours = build(spec, dim)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        for name, parameter in ours.named_parameters():
            parameter.copy_(theirs.get_parameter(NAMES[name]))
    assert len(list(ours.parameters())) == len(list(theirs.parameters()))
    return ours, theirs


def dense(x: Tensor) -> Dense:
    return Dense(torch.zeros(x.shape[:2], dtype=torch.int64))


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize(("dim", "spec", "config"), PAIRS, ids=["default", "groups", "unbiased"])
def test_equals_transformers(dim: int, spec: dict[str, Any], config: dict[str, Any], mode: str) -> None:
    """Outputs, and the gradients of the input and of every weight."""
    ours, theirs = pair(dim, spec, config)
    x, weight = torch.randn(2, 3, 100, dim)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    with numerics(mode):
        got = ours(a, dense(a))
        (got * weight).sum().backward()
    want = theirs(b)
    (want * weight).sum().backward()
    assert want.abs().max() > 0.5
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(NAMES[name]).grad, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("length", [1, 63, 64, 200])
@torch.no_grad()
def test_the_scan_equals_transformers_in_float64(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their chunked scan goes through `Tensor.float`, which is made to keep the precision."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    x = torch.randn(2, length, 6, 5, dtype=torch.float64)
    dt, A = torch.rand(2, length, 6, dtype=torch.float64), -torch.rand(6, dtype=torch.float64) * 8
    b, c = torch.randn(2, 2, length, 3, 7, dtype=torch.float64)
    start = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    want, last = mamba2_chunk_scan(x, dt, A, b, c, 48, initial_states=start, return_final_states=True)
    h = start.unflatten(1, (3, 2)).permute(0, 1, 4, 2, 3).flatten(3)
    for mode in ("fast", "exact"):
        with numerics(mode):
            y, end = ssd(x, dt, A, b, c, h)
        torch.testing.assert_close(y, want, rtol=0, atol=1e-9)
        end = end.unflatten(3, (2, 5)).permute(0, 1, 3, 4, 2).flatten(1, 2)
        torch.testing.assert_close(end, last, rtol=0, atol=1e-9)


def test_the_clamp_of_the_step_matters() -> None:
    """Control arm: without the limit the comparison fails."""
    dim, spec, config = PAIRS[1]
    _, theirs = pair(dim, spec, config)
    ours = build({**spec, "limit": [0.0, None]}, dim)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(theirs.get_parameter(NAMES[name]))
    x = torch.randn(2, 20, dim)
    assert (ours(x, dense(x)) - theirs(x)).abs().max() > 1e-3


def test_the_state_has_the_published_size() -> None:
    """2.7B: 80 heads of 64 with 128 numbers a channel, and 3 inputs of a convolution over x, b and c."""
    memory = build({"head_dim": 64, "state": 128}, 2560).memory()
    assert memory.shape == (80 * 64 * 128 + 3 * (5120 + 2 * 128),) and memory.dtype == torch.float32


def test_flops_are_those_of_the_recurrence() -> None:
    mixer = build({"head_dim": 16, "state": 8, "groups": 2}, 64)
    assert mixer.mixing_flops(1) == mixer.mixing_flops(10**6) == 128 * (5 * 8 + 4) + 2 * 4 * (128 + 2 * 2 * 8)


@torch.no_grad()
def test_starting_weights_are_the_published_ones() -> None:
    mixer = build({"head_dim": 1}, 512)
    mixer.reset(torch.Generator().manual_seed(0))
    rate = mixer.A_log.exp()
    assert rate.min() >= 1 and rate.max() <= 16.001 and abs(rate.mean() - 8.5) < 0.5
    dt = nn.functional.softplus(mixer.dt_bias).log10()
    assert dt.min() >= -3.001 and dt.max() <= -0.999 and abs(dt.mean() + 2) < 0.06
    assert mixer.D.eq(1).all() and mixer.norm_weight.eq(1).all() and mixer.conv_weight.abs().max() <= 0.5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"head_dim": 24}, r"width \(64\) must be a multiple of head_dim \(24\)"),
        ({"head_dim": 16, "groups": 3}, r"heads \(4\) must be a multiple of groups \(3\)"),
        ({"head_dim": 16, "limit": [0.5, 0.1]}, "lowest, highest"),
    ],
)
def test_wrong_sizes_are_explained(spec: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, ValueError), match=message):
        BlockConfig.parse({"mixer": {"kind": "mamba2", **spec}}).resolve(32)
