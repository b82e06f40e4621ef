"""Gated DeltaNet against transformers' Qwen3-Next layer with the same weights, and its state's size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Qwen3NextConfig
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

from hanok.core.errors import UsageError
from hanok.model.config import BlockConfig
from hanok.nn.context import Dense
from hanok.nn.mixer.gated_deltanet import GatedDeltaNet
from hanok.ops.numerics import numerics

NAMES = {
    "qkvz.weight": "in_proj_qkvz.weight",
    "ba.weight": "in_proj_ba.weight",
    "conv_weight": "conv1d.weight",
    "dt_bias": "dt_bias",
    "A_log": "A_log",
    "norm.weight": "norm.weight",
    "out.weight": "out_proj.weight",
}
# dim, key heads, value heads, sizes of key and value, taps
SIZES = [(32, 4, 4, 8, 8, 4), (24, 2, 6, 5, 7, 4), (20, 3, 3, 16, 4, 2)]


def build(size: tuple[int, ...], dtype: torch.dtype = torch.float32) -> GatedDeltaNet:
    dim, heads, value_heads, head_dim, value_dim, conv = size
    config = GatedDeltaNet.Config(
        heads=heads, value_heads=value_heads, head_dim=head_dim, value_dim=value_dim, conv=conv
    )
    return GatedDeltaNet(config, dim, 0).to(dtype)


def pair(size: tuple[int, ...]) -> tuple[GatedDeltaNet, nn.Module]:
    """Return our mixer and theirs with the same random weights."""
    dim, heads, value_heads, head_dim, value_dim, conv = size
    config = Qwen3NextConfig(
        hidden_size=dim,
        linear_num_key_heads=heads,
        linear_num_value_heads=value_heads,
        linear_key_head_dim=head_dim,
        linear_value_head_dim=value_dim,
        linear_conv_kernel_dim=conv,
    )
    theirs: nn.Module = Qwen3NextGatedDeltaNet(config, 0).eval()
    ours = build(size)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for name, parameter in ours.named_parameters():
            parameter.copy_(theirs.get_parameter(NAMES[name]))
    assert len(list(ours.parameters())) == len(list(theirs.parameters()))
    return ours, theirs


def dense(x: Tensor) -> Dense:
    return Dense(torch.zeros(x.shape[:2], dtype=torch.int64))


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_transformers(size: tuple[int, ...], mode: str) -> None:
    """Outputs, and the gradients of the input and of every weight."""
    ours, theirs = pair(size)
    x, weight = torch.randn(2, 3, 100, size[0])
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    with numerics(mode):
        got = ours(a, dense(a))
        (got * weight).sum().backward()
    want = theirs(b)
    (want * weight).sum().backward()
    assert want.abs().max() > 0.3
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(NAMES[name]).grad, rtol=2e-3, atol=2e-3)


def test_the_order_of_the_rows_matters() -> None:
    """Control arm: with keys and queries exchanged the comparison fails."""
    ours, theirs = pair(SIZES[0])
    with torch.no_grad():
        ours.qkvz.weight.copy_(ours.qkvz.weight.unflatten(0, (4, 4, 8))[:, [1, 0, 2, 3]].flatten(0, 2))
    x = torch.randn(2, 20, 32)
    assert (ours(x, dense(x)) - theirs(x)).abs().max() > 1e-3


def test_the_state_has_the_published_size() -> None:
    """Qwen3-Next 80B: 32 value heads of 128 x 128, and 3 inputs of a convolution over 8192 channels."""
    memory = build((2048, 16, 32, 128, 128, 4)).memory()
    assert memory.shape == (32 * 128 * 128 + 3 * 8192,) and memory.dtype == torch.float32


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"heads": 3}, r"dim \(32\) must be a multiple of heads \(3\)"),
        ({"heads": 4, "value_heads": 6}, r"value_heads \(6\) must be a multiple of heads \(4\)"),
    ],
)
def test_wrong_sizes_are_explained(spec: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, ValueError), match=message):
        BlockConfig.parse({"mixer": {"kind": "gated_deltanet", **spec}}).resolve(32)
