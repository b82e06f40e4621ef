"""Training a mixture of experts: losses that the objective adds, and biases that a hook moves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.router.base import Router
from hanok.nn.router.sigmoid_group import SigmoidGroup
from hanok.nn.router.tally import tallying
from hanok.text.batch import Batch
from hanok.train.hook import Hook, Record
from hanok.train.hook.balance import Balance
from hanok.train.hook.checkpoint import Checkpoint
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.optim.adamw import AdamW, AdamWConfig
from hanok.train.schedule.constant import Constant
from hanok.train.state import TrainState, resume


def build(router: dict[str, Any], seed: int = 0) -> Model:
    ffn = {"kind": "moe", "experts": 8, "router": router, "expert": {"kind": "swiglu", "hidden": 16}}
    layers = {"block": {"mixer": {"kind": "gqa", "heads": 2}, "ffn": ffn}}
    return Model(ModelConfig.parse({"vocab": 32, "dim": 16, "depth": 2, "layers": layers}), seed=seed)


def state(model: Model, source: Any, steps: int) -> TrainState:
    return TrainState(model, AdamW(AdamWConfig(lr=0.003), model), source, steps)


def go(run: TrainState, *hooks: Hook) -> Record:
    return train(run, NextToken(NextToken.Config()), Constant(Constant.Config()), LoopConfig(), hooks)


def test_the_objective_adds_the_weighted_losses(rows: Callable[..., Batch]) -> None:
    model, batch, objective = build({"kind": "topk", "balance": 0.3, "z": 0.02}), rows(), NextToken(NextToken.Config())
    loss, metrics = objective(model, batch)
    with tallying() as tally:
        model(batch.tokens)
    balance = sum(router.balance_loss(choice) for router, _, choice in tally.entries)
    z = sum(torch.logsumexp(logits, -1).square().mean() for _, logits, _ in tally.entries)
    torch.testing.assert_close(loss, metrics["cross_entropy"] + 0.3 * balance + 0.02 * z)
    assert not any(value.requires_grad for value in metrics.values())
    plain, _ = objective(build({"kind": "topk"}), batch)
    torch.testing.assert_close(plain, metrics["cross_entropy"])


def test_a_dense_model_reports_nothing_about_experts(tiny: Callable[..., Model], rows: Callable[..., Batch]) -> None:
    _, metrics = NextToken(NextToken.Config())(tiny(), rows())
    assert set(metrics) == {"mean_token_accuracy"}


class Loads(Hook):
    """Remembers how uneven the loads were."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def after_step(self, state: TrainState, record: Record) -> None:
        self.seen.append(record["moe/load_max"])


@pytest.mark.parametrize(
    ("router", "hooks"),
    [
        ({"kind": "sigmoid_group", "rate": 0.01}, [Balance()]),
        pytest.param({"kind": "topk", "bias": "logits", "balance": 0.1}, [], marks=pytest.mark.slow),
    ],
    ids=["bias", "loss"],
)
def test_loads_become_even(router: dict[str, Any], hooks: list[Hook], counting: Any) -> None:
    """Routers start out leaning to one side; the arm without a remedy stays there."""

    def late(router: dict[str, Any], hooks: list[Hook]) -> float:
        model, loads = build(router), Loads()
        for module in model.modules():
            if isinstance(module, Router):
                lean = 0.2 if isinstance(module, SigmoidGroup) else 2.0
                module.state_dict()["bias"].copy_(torch.linspace(-lean, lean, 8))
        go(state(model, counting(batch=8), 100), loads, *hooks)
        return sum(loads.seen[-20:]) / 20

    control = {key: value for key, value in router.items() if key != "balance"}
    assert late(router, hooks) < 1.6 < 2 < late(control, [])


def test_the_hook_steps_by_the_sign_of_the_difference(counting: Any) -> None:
    model, seen = build({"kind": "sigmoid_group", "rate": 0.125}), []
    routers = [module for module in model.modules() if isinstance(module, SigmoidGroup)]

    class Watch(Hook):
        def after_step(self, state: TrainState, record: Record) -> None:
            seen.append(copy.deepcopy([router._loads for router in routers]))

    go(state(model, counting(), 1), Watch(), Balance())
    for router, loads in zip(routers, seen[0], strict=True):
        torch.testing.assert_close(router.bias, 0.125 * torch.sign(loads.float().mean() - loads))
        assert int(loads.sum()) == 2 * 4 * 12 and router._loads is None


def test_biases_are_resumed_bitwise(counting: Any, tmp_path: Any) -> None:
    router = {"kind": "sigmoid_group", "rate": 0.01, "balance": 0.001}
    whole = build(router)
    go(state(whole, counting(), 12), Balance())
    half = build(router)
    go(state(half, counting(), 5), Balance(), Checkpoint(tmp_path, every=5))
    again = build(router, seed=1)
    later = state(again, counting(), 12)
    assert resume(later, tmp_path) is not None
    later.steps = 12  # the shorter run's checkpoint says 5
    go(later, Balance())
    for name, tensor in whole.state_dict().items():
        if "bias" in name:
            assert tensor.abs().sum() > 0
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in whole.state_dict().items())
