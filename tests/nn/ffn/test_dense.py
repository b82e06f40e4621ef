"""Dense feed-forward networks against transformers' modules and the formulas of their papers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import activations
from transformers.models.gemma.modeling_gemma import GemmaMLP
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXMLP
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.models.t5.modeling_t5 import T5DenseActDense, T5DenseGatedActDense

from hanok.core.config import digest
from hanok.nn.ffn import FFNS
from hanok.ops.activation import ACTIVATIONS
from hanok.ops.numerics import numerics

THEIRS = {
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "gelu_quick": "quick_gelu",
    "tanh": "tanh",
}


def build(kind: str, dim: int, **words: Any) -> nn.Module:
    part = FFNS[kind]
    module: nn.Module = part(part.Config(kind=kind, **words), dim)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def agree(ours: nn.Module, theirs: nn.Module, names: dict[str, str], dim: int) -> None:
    """Copy our weights, and compare outputs and all gradients."""
    pairs = [(ours.get_parameter(mine), theirs.get_parameter(other)) for mine, other in names.items()]
    assert len(pairs) == len(list(theirs.parameters())) == len(list(ours.parameters()))
    with torch.no_grad():
        for mine, other in pairs:
            other.copy_(mine)
    x = torch.randn(2, 7, dim, requires_grad=True)
    other_x = x.detach().clone().requires_grad_()
    a, b = ours(x), theirs(other_x)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    a.square().sum().backward()
    b.square().sum().backward()
    for mine, other in [*pairs, (x, other_x)]:
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("word", sorted(ACTIVATIONS))
def test_activations_equal_the_library(word: str, mode: str) -> None:
    x = torch.randn(3, 37) * 4
    with numerics(mode):
        torch.testing.assert_close(ACTIVATIONS[word](x), activations.ACT2FN[THEIRS[word]](x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_swiglu_is_llamas(bias: bool) -> None:
    config = SimpleNamespace(hidden_size=12, intermediate_size=20, mlp_bias=bias, hidden_act="silu")
    ours = build("swiglu", 12, hidden=20, bias="all" if bias else "none")
    kinds = ("weight", "bias") if bias else ("weight",)
    agree(ours, LlamaMLP(config), {f"{n}.{k}": f"{n}_proj.{k}" for n in ("gate", "up", "down") for k in kinds}, 12)


@pytest.mark.parametrize(("word", "theirs"), [("gelu_tanh", "gelu_pytorch_tanh"), ("gelu", "gelu")])
def test_geglu_is_gemmas(word: str, theirs: str) -> None:
    config = SimpleNamespace(hidden_size=9, intermediate_size=22, hidden_act=theirs)
    ours = build("geglu", 9, hidden=22, activation=word)
    agree(ours, GemmaMLP(config), {f"{n}.weight": f"{n}_proj.weight" for n in ("gate", "up", "down")}, 9)


@pytest.mark.parametrize(("kind", "act"), [("geglu", "gelu_new"), ("reglu", "relu")])
def test_gated_is_t5s(kind: str, act: str) -> None:
    config = SimpleNamespace(d_model=10, d_ff=14, dropout_rate=0.0, dense_act_fn=act)
    names = {"gate.weight": "wi_0.weight", "up.weight": "wi_1.weight", "down.weight": "wo.weight"}
    agree(build(kind, 10, hidden=14), T5DenseGatedActDense(config), names, 10)


def test_mlp_is_t5s_and_neoxs() -> None:
    config = SimpleNamespace(d_model=10, d_ff=14, dropout_rate=0.0, dense_act_fn="relu")
    ours = build("mlp", 10, hidden=14, activation="relu")
    agree(ours, T5DenseActDense(config), {"up.weight": "wi.weight", "down.weight": "wo.weight"}, 10)
    config = SimpleNamespace(hidden_size=10, intermediate_size=40, hidden_act="gelu")
    names = {
        f"{a}.{k}": f"{b}.{k}"
        for a, b in (("up", "dense_h_to_4h"), ("down", "dense_4h_to_h"))
        for k in ("weight", "bias")
    }
    agree(build("mlp", 10, bias="all"), GPTNeoXMLP(config), names, 10)


def test_relu_squared_is_primers() -> None:
    ours, x = build("mlp", 6, hidden=8, activation="relu2"), torch.randn(4, 6)
    up, down = ours.get_parameter("up.weight"), ours.get_parameter("down.weight")
    want: Tensor = (x @ up.T).clamp(min=0) ** 2 @ down.T
    torch.testing.assert_close(ours(x), want)


def test_clamped_gates_stay_within_their_bounds() -> None:
    ours, x = build("swiglu_clamped", 5, hidden=8, limit=0.5, alpha=1.2), torch.randn(40, 5) * 3
    gate, up, down = (ours.get_parameter(f"{n}.weight") for n in ("gate", "up", "down"))
    g, u = (x @ gate.T).clamp(max=0.5), (x @ up.T).clamp(-0.5, 0.5)
    torch.testing.assert_close(ours(x), (g * torch.sigmoid(1.2 * g) * (u + 1)) @ down.T)


def test_defaults_are_resolved() -> None:
    assert FFNS["swiglu"].Config().resolve(100).hidden == 288
    assert FFNS["mlp"].Config().resolve(100).hidden == 400
    config = FFNS["swiglu"].Config(hidden=40)
    assert config.to_dict() == {"kind": "swiglu", "hidden": 40, "bias": "none"}
    assert digest(config.to_dict()) == digest({"bias": "none", "hidden": 40, "kind": "swiglu"})
