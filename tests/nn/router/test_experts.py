"""Stacked expert weights: what they compute, what is counted of them, and their packed twin."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hanok.nn.experts import ExpertLinear, Int8ExpertLinear
from hanok.nn.ffn.moe import MoE
from hanok.nn.linear import Int8Linear, Linear
from hanok.nn.router.base import Router
from hanok.ops.numerics import numerics


def build(*, bias: bool = True) -> ExpertLinear:
    module = ExpertLinear(7, 5, experts=4, active=2, bias=bias)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("counts", [[2, 0, 3, 1], [0, 0, 6, 0], [0, 0, 0, 0]])
def test_each_expert_computes_its_own_rows(counts: list[int], mode: str) -> None:
    module, x = build(), torch.randn(sum(counts), 7)
    assert module.bias is not None
    with numerics(mode):
        got = module(x, counts)
    owners = [expert for expert, count in enumerate(counts) for _ in range(count)]
    want = [module.weight[e] @ row + module.bias[e] for e, row in zip(owners, x, strict=True)]
    torch.testing.assert_close(got, torch.stack(want) if want else torch.zeros(0, 5))


def test_rows_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(RuntimeError, match="split"):
        build()(torch.randn(5, 7), [1, 1, 1, 1])


@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_packed_experts_are_the_packed_matrices(bias: bool) -> None:
    module, x, counts = build(bias=bias), torch.randn(6, 7), [2, 0, 3, 1]
    packed = Int8ExpertLinear.from_linear(module)
    assert packed.weight.dtype == torch.int8 and packed.weight.shape == (4, 5, 7)
    scale = packed.weight_scale[..., None]
    assert ((packed.unpacked() - module.weight).abs() <= scale * 0.5001).all()
    start = 0
    for expert, count in enumerate(counts):
        one = Linear(7, 5, bias=bias)
        one.weight.copy_(module.weight[expert])
        if one.bias is not None and module.bias is not None:
            one.bias.copy_(module.bias[expert])
        rows = slice(start, start + count)
        if count:
            want = Int8Linear.from_linear(one)(x[rows])
            torch.testing.assert_close(packed(x, counts)[rows], want, rtol=1e-6, atol=1e-6)
        start += count


def test_what_a_count_needs_is_on_the_modules() -> None:
    words = {"kind": "moe", "experts": 6, "router": {"kind": "topk", "per_token": 2}, "shared": 9}
    with torch.device("meta"):
        moe = MoE(MoE.Config.parse({**words, "expert": {"kind": "swiglu", "hidden": 10}}), 8)
    experts = [module for module in moe.modules() if isinstance(module, ExpertLinear)]
    assert len(experts) == 3 and {(module.copies, module.active) for module in experts} == {(6, 2)}
    assert sum(m.copies * m.inputs * m.outputs for m in experts) == sum(m.weight.numel() for m in experts)
    router = next(module for module in moe.modules() if isinstance(module, Router))
    assert (router.inputs, router.outputs, router.copies, router.active) == (8, 6, 1, 1)


def test_names_of_parameters() -> None:
    config = MoE.Config.parse({"kind": "moe", "router": "sigmoid_group", "shared": 9, "shared_gate": "sigmoid"})
    moe = MoE(config, 8)
    assert set(moe.state_dict()) == {
        *(f"experts.{part}.weight" for part in ("gate", "up", "down")),
        *(f"shared.{part}.weight" for part in ("gate", "up", "down")),
        "router.weight",
        "router.bias",
        "shared_gate.weight",
    }
    assert moe.state_dict()["experts.down.weight"].shape == (8, 8, 32)


def test_routers_stay_in_full_precision_under_autocast() -> None:
    moe = MoE(MoE.Config.parse({"kind": "moe", "expert": {"kind": "swiglu", "hidden": 10}}), 8)
    nn.init.normal_(moe.router.weight)
    x = torch.randn(2, 5, 8)
    want = moe.router.logits(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(moe.router.logits(x), want)
