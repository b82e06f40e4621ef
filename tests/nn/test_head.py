"""Heads: logits whose bits do not depend on the batch, and the formulas of scale and soft-cap."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.ops.numerics import numerics

HEADS: list[dict[str, Any]] = [
    {},
    {"scale": 0.3, "bias": "all"},
    {"softcap": 0.05},
    {"softcap": 0.05, "scale": 3.0, "transform": {"activation": "tanh", "norm": {"kind": "layernorm"}}},
    {"transform": {"activation": "gelu", "width": 10, "bias": "none"}},
]


def build(head: dict[str, Any], vocab: int = 61) -> Model:
    layer = {"mixer": {"kind": "gqa", "heads": 2}, "ffn": {"kind": "swiglu", "hidden": 24}}
    return Model(ModelConfig(vocab=vocab, dim=16, depth=1, layers={"block": layer}, head=head))


@pytest.mark.parametrize("vocab", [61, 64, 203])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("head", HEADS, ids=str)
@torch.no_grad()
def test_exact_bits_do_not_depend_on_the_batch(head: dict[str, Any], dtype: torch.dtype, vocab: int) -> None:
    model = build(head, vocab).to(dtype)
    hidden = torch.randn(37, 16, dtype=dtype) * 3
    with numerics("exact"):
        whole = model.logits(hidden)
        for start, stop in ((0, 1), (3, 4), (5, 12), (20, 37)):
            assert torch.equal(model.logits(hidden[start:stop]), whole[start:stop])


@torch.no_grad()
def test_a_soft_cap_bounds_scaled_logits() -> None:
    plain, capped = build({}), build({"scale": 0.5, "softcap": 2.0})
    capped.load_state_dict(plain.state_dict())
    hidden = torch.randn(5, 16) * 30
    torch.testing.assert_close(capped.logits(hidden), 2.0 * torch.tanh(plain.logits(hidden) * 0.5 / 2.0))
    assert capped.logits(hidden).abs().max() <= 2.0
