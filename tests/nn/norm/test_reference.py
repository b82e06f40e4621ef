"""Norms compute what torch and transformers compute, in every dtype."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.olmo.modeling_olmo import OlmoLayerNorm

from hanok.nn.norm.layernorm import LayerNorm
from hanok.nn.norm.rmsnorm import RMSNorm
from hanok.ops.numerics import numerics

DIM = 48
PAIRS = {
    "llama": (lambda: LlamaRMSNorm(DIM, 1e-4), RMSNorm.Config(eps=1e-4)),
    "gemma": (lambda: GemmaRMSNorm(DIM, 1e-4), RMSNorm.Config(eps=1e-4, offset=1.0)),
    "torch rms": (lambda: nn.RMSNorm(DIM, 1e-4, elementwise_affine=False), RMSNorm.Config(eps=1e-4, weight="none")),
    "torch": (lambda: nn.LayerNorm(DIM, 1e-4), LayerNorm.Config(eps=1e-4)),
    "no bias": (lambda: nn.LayerNorm(DIM, 1e-4, bias=False), LayerNorm.Config(eps=1e-4, bias="none")),
    "olmo": (lambda: OlmoLayerNorm(DIM), LayerNorm.Config(weight="none", bias="none")),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("name", PAIRS)
@torch.no_grad()
def test_equal_to_the_reference(name: str, mode: str, dtype: torch.dtype) -> None:
    make, config = PAIRS[name]
    theirs, ours = make(), (RMSNorm if isinstance(config, RMSNorm.Config) else LayerNorm)(config, DIM)  # type: ignore[arg-type]
    assert {name: p.shape for name, p in ours.named_parameters()} == {n: p.shape for n, p in theirs.named_parameters()}
    for parameter in theirs.parameters():
        parameter += 0.5 * torch.randn(DIM)
    ours.load_state_dict(theirs.state_dict())
    x = (4 * torch.randn(7, 5, DIM) - 1).to(dtype)
    with numerics(mode):
        got, want = ours.to(dtype)(x), theirs.to(dtype)(x)
    assert got.dtype == want.dtype == dtype
    if dtype != torch.float32 and name in ("llama", "gemma"):
        assert torch.equal(got, want), "rounded at the same places, the numbers are the same"
    tolerance = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}[dtype]
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


@torch.no_grad()
def test_a_gain_near_one_keeps_its_digits() -> None:
    """In bfloat16 1 + 0.001 is 1: stored as a distance from 1, the gain survives."""
    x, ours = torch.ones(1, 4, dtype=torch.bfloat16) * 3, RMSNorm(RMSNorm.Config(offset=1.0, eps=0.0), 4)
    ours.weight += 0.01  # type: ignore[operator]
    assert (ours.bfloat16()(x) > 1).all()
    plain = RMSNorm(RMSNorm.Config(eps=0.0), 4)
    plain.weight += 0.002  # type: ignore[operator]
    assert (plain.bfloat16()(x) == 1).all()
