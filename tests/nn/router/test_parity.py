"""Mixtures of experts against the modules of transformers: the same weights, outputs and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssMLP
from transformers.models.jamba.modeling_jamba import JambaSparseMoeBlock
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeSparseMoeBlock
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock
from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersSparseMLP

from hanok.nn.ffn.moe import MoE

DIM = 12
Copy = dict[str, Tensor]  # our names, with views into their parameters


def build(**words: Any) -> MoE:
    return MoE(MoE.Config.parse({"kind": "moe", **words}), DIM)


def theirs(block: type[nn.Module], config: Any) -> nn.Module:
    """Build their block with random weights, large enough for each expert to matter."""
    config._attn_implementation, config._experts_implementation = "eager", "eager"
    module = block(config)
    for tensor in module.parameters():
        nn.init.normal_(tensor, std=0.3)
    return module


def halves(module: nn.Module, hidden: int, prefix: str = "experts.") -> Copy:
    """Take the experts' gate and up apart, which they keep in one tensor (E, 2 hidden, dim)."""
    both = module.get_parameter(f"{prefix}gate_up_proj")
    return {
        "experts.gate.weight": both[:, :hidden],
        "experts.up.weight": both[:, hidden:],
        "experts.down.weight": module.get_parameter(f"{prefix}down_proj"),
    }


def shared(module: nn.Module, prefix: str) -> Copy:
    return {f"shared.{n}.weight": module.get_parameter(f"{prefix}.{n}_proj.weight") for n in ("gate", "up", "down")}


def agree(ours: MoE, module: nn.Module, views: Copy, *, batch: int = 3, length: int = 11) -> None:
    """Give ours their weights; compare outputs, and the gradients of the input and of every weight."""
    mine = dict(ours.named_parameters()) | dict(ours.named_buffers())
    assert set(mine) == set(views)
    with torch.no_grad():
        for name, view in views.items():
            mine[name].copy_(view)
    x = torch.randn(batch, length, DIM, requires_grad=True)
    other_x = x.detach().clone().requires_grad_()
    a, b = ours(x), module(other_x)
    b = b[0] if isinstance(b, tuple) else b
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(a.shape)
    a.backward(upstream)
    b.backward(upstream)
    torch.testing.assert_close(x.grad, other_x.grad, rtol=1e-5, atol=1e-5)
    for name, tensor in ours.named_parameters():
        torch.testing.assert_close(
            tensor.grad, gradient(views[name]), rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def gradient(view: Tensor) -> Tensor | None:
    """Return the gradient of a parameter, or of the part of one that a view shows."""
    base = view._base if view._base is not None else view
    assert base.grad is not None
    return base.grad.as_strided(view.shape, view.stride(), view.storage_offset())


@pytest.mark.parametrize(("experts", "k"), [(8, 2), (5, 1), (4, 4)])
def test_mixtral(experts: int, k: int) -> None:
    config = transformers.MixtralConfig(
        hidden_size=DIM, intermediate_size=10, num_local_experts=experts, num_experts_per_tok=k
    )
    module = theirs(MixtralSparseMoeBlock, config)
    ours = build(experts=experts, router={"kind": "topk", "per_token": k}, expert={"kind": "swiglu", "hidden": 10})
    agree(ours, module, {"router.weight": module.get_parameter("gate.weight"), **halves(module, 10)})


@pytest.mark.parametrize("normalise", ["none", "sum"])
def test_qwen3_and_jamba(normalise: str) -> None:
    words = {
        "experts": 6,
        "router": {"kind": "topk", "per_token": 3, "normalise": normalise},
        "expert": {"kind": "swiglu", "hidden": 8},
    }
    config = transformers.Qwen3MoeConfig(
        hidden_size=DIM,
        moe_intermediate_size=8,
        num_experts=6,
        num_experts_per_tok=3,
        norm_topk_prob=normalise == "sum",
    )
    module = theirs(Qwen3MoeSparseMoeBlock, config)
    agree(build(**words), module, {"router.weight": module.get_parameter("gate.weight"), **halves(module, 8)})
    if normalise == "none":
        config = transformers.JambaConfig(
            hidden_size=DIM, intermediate_size=8, num_experts=6, num_experts_per_tok=3, use_mamba_kernels=False
        )
        module = theirs(JambaSparseMoeBlock, config)
        agree(build(**words), module, {"router.weight": module.get_parameter("router.weight"), **halves(module, 8)})


@pytest.mark.parametrize("normalise", ["none", "sum"])
def test_qwen2_with_its_gated_shared_expert(normalise: str) -> None:
    config = transformers.Qwen2MoeConfig(
        hidden_size=DIM,
        moe_intermediate_size=7,
        shared_expert_intermediate_size=18,
        num_experts=9,
        num_experts_per_tok=4,
        norm_topk_prob=normalise == "sum",
    )
    module = theirs(Qwen2MoeSparseMoeBlock, config)
    ours = build(
        experts=9,
        router={"kind": "topk", "per_token": 4, "normalise": normalise},
        expert={"kind": "swiglu", "hidden": 7},
        shared=18,
        shared_gate="sigmoid",
    )
    views = {
        "router.weight": module.get_parameter("gate.weight"),
        "shared_gate.weight": module.get_parameter("shared_expert_gate.weight"),
        **shared(module, "shared_expert"),
        **halves(module, 7),
    }
    agree(ours, module, views)


@pytest.mark.parametrize(("groups", "keep", "k"), [(4, 2, 3), (1, 1, 4), (2, 1, 2)])
@pytest.mark.parametrize("normalise", ["none", "sum"])
def test_deepseek_v3(groups: int, keep: int, k: int, normalise: str) -> None:
    config = transformers.DeepseekV3Config(
        hidden_size=DIM,
        moe_intermediate_size=6,
        n_routed_experts=12,
        num_local_experts=12,
        num_experts_per_tok=k,
        n_group=groups,
        topk_group=keep,
        n_shared_experts=2,
        routed_scaling_factor=2.5,
        norm_topk_prob=normalise == "sum",
    )
    module = theirs(DeepseekV3MoE, config)
    bias = module.get_buffer("gate.e_score_correction_bias")
    bias.copy_(torch.randn(12) * 0.3 - 1)  # sums below zero: what is not allowed must rank below them
    router = {
        "kind": "sigmoid_group",
        "per_token": k,
        "groups": groups,
        "groups_per_token": keep,
        "scale": 2.5,
        "normalise": normalise,
    }
    ours = build(experts=12, router=router, expert={"kind": "swiglu", "hidden": 6}, shared=12)
    views = {
        "router.weight": module.get_parameter("gate.weight"),
        "router.bias": bias,
        **shared(module, "shared_experts"),
        **halves(module, 6),
    }
    agree(ours, module, views)


@pytest.mark.parametrize(("groups", "keep", "method"), [(1, 1, "greedy"), (4, 2, "group_limited_greedy")])
def test_deepseek_v2(groups: int, keep: int, method: str) -> None:
    config = transformers.DeepseekV2Config(
        hidden_size=DIM,
        num_attention_heads=3,
        moe_intermediate_size=6,
        n_routed_experts=8,
        num_experts=8,
        num_experts_per_tok=3,
        n_group=groups,
        topk_group=keep,
        topk_method=method,
        n_shared_experts=1,
        routed_scaling_factor=1.7,
        mlp_bias=False,
    )
    module = theirs(DeepseekV2Moe, config)
    router = {"kind": "group_limited", "per_token": 3, "groups": groups, "groups_per_token": keep, "scale": 1.7}
    ours = build(experts=8, router=router, expert={"kind": "swiglu", "hidden": 6}, shared=6)
    views = {
        "router.weight": module.get_parameter("gate.weight"),
        **shared(module, "shared_experts"),
        **halves(module, 6),
    }
    agree(ours, module, views)


@pytest.mark.parametrize("capacity", [1, 3, 64])
def test_switch_drops_what_exceeds_the_capacity(capacity: int) -> None:
    config = transformers.SwitchTransformersConfig(
        d_model=DIM,
        hidden_size=DIM,
        d_ff=9,
        num_experts=4,
        expert_capacity=capacity,
        router_jitter_noise=0.0,
        dropout_rate=0.0,
    )
    module = theirs(SwitchTransformersSparseMLP, config)
    ours = build(
        experts=4,
        router={"kind": "switch", "capacity": capacity},
        expert={"kind": "mlp", "hidden": 9, "activation": "relu"},
    )
    with torch.no_grad():
        ours.router.weight.copy_(module.get_parameter("router.classifier.weight"))
        for e in range(4):
            for mine, other in (("up", "wi"), ("down", "wo")):
                ours.get_parameter(f"experts.{mine}.weight")[e] = module.get_parameter(
                    f"experts.expert_{e}.{other}.weight"
                )
    x = torch.randn(3, 11, DIM, requires_grad=True)
    other_x = x.detach().clone().requires_grad_()
    a, b = ours(x), module(other_x)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    dropped = int((a == 0).all(-1).sum())
    assert dropped > 0 if capacity < 64 else dropped == 0
    upstream = torch.randn(a.shape)
    a.backward(upstream)
    b.backward(upstream)
    torch.testing.assert_close(x.grad, other_x.grad, rtol=1e-5, atol=1e-5)
    grads = [
        [module.get_parameter(f"experts.expert_{e}.{other}.weight").grad for e in range(4)] for other in ("wi", "wo")
    ]
    for mine, other in zip(("up", "down"), grads, strict=True):
        want = torch.stack(
            [torch.zeros_like(next(t for t in other if t is not None)) if t is None else t for t in other]
        )
        torch.testing.assert_close(ours.get_parameter(f"experts.{mine}.weight").grad, want, rtol=1e-4, atol=1e-5)
    other_grad = module.get_parameter("router.classifier.weight").grad
    torch.testing.assert_close(ours.router.weight.grad, other_grad, rtol=1e-4, atol=1e-5)


def test_gpt_oss_with_biases_and_clamped_gates() -> None:
    config = transformers.GptOssConfig(
        hidden_size=DIM, intermediate_size=10, num_local_experts=6, num_experts_per_tok=2, swiglu_limit=0.7
    )
    module = theirs(GptOssMLP, config)
    ours = build(
        experts=6,
        router={"kind": "topk", "per_token": 2, "bias": "logits"},
        expert={"kind": "swiglu_clamped", "hidden": 10, "bias": "all", "limit": 0.7},
    )
    both, bias = (module.get_parameter(f"experts.gate_up_proj{end}") for end in ("", "_bias"))
    views = {
        "router.weight": module.get_parameter("router.weight"),
        "router.bias": module.get_parameter("router.bias"),
        "experts.gate.weight": both[..., ::2].mT,
        "experts.up.weight": both[..., 1::2].mT,
        "experts.down.weight": module.get_parameter("experts.down_proj").mT,
        "experts.gate.bias": bias[..., ::2],
        "experts.up.bias": bias[..., 1::2],
        "experts.down.bias": module.get_parameter("experts.down_proj_bias"),
    }
    agree(ours, module, views)
