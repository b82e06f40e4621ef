"""Objectives against three-line formulas, the published figures, and the invariants that every objective owes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.nn.context import Dense
from hanok.text.batch import Batch
from hanok.train.objective import OBJECTIVES
from hanok.train.objective.clm import NextToken
from hanok.train.objective.dpo import DPO
from hanok.train.objective.grpo import GRPO

Rows = Callable[..., Batch]
Tiny = Callable[..., Model]


def columns(batch: Batch, seed: int = 5) -> Batch:
    """Return the batch with every column that any objective needs."""
    g = torch.Generator().manual_seed(seed)
    shape = batch.weights.shape
    counted = (batch.weights > 0).float()
    return batch.with_columns(
        advantages=torch.randn(shape[0], 1, generator=g).expand(shape) * counted,
        old_logprobs=(-3.5 + 0.5 * torch.randn(shape, generator=g)) * counted,
        reference=(-3.5 + 0.5 * torch.randn(shape, generator=g)) * counted,
    )


def make(name: str) -> tuple[Any, Callable[[Batch], Batch]]:
    """Return an objective and what completes a batch for it."""
    if name == "dpo":
        return DPO(DPO.Config(beta=0.3, label_smoothing=0.1)), lambda b: b.with_columns(
            reference=torch.linspace(-30, -20, b.weights.shape[0])
        )
    if name == "clm":
        return NextToken(NextToken.Config()), lambda b: b
    _, _, aggregate = name.partition("/")
    divisor = {"max_tokens": 16} if aggregate == "constant" else {}
    config = GRPO.Config(beta=0.1, aggregate=aggregate, epsilon_low=0.2, epsilon_high=0.3, **divisor)
    return GRPO(config), columns


ALL = ["clm", "dpo", "grpo/token", "grpo/sequence", "grpo/constant"]


def logprobs(model: Model, batch: Batch) -> Tensor:
    """Return log p(target) of every token, straight from the logits."""
    logits = model(batch.tokens, Dense(batch.tokens, batch.positions, batch.segments))
    return logits.float().log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]


def reference_loss(name: str, objective: Any, model: Model, batch: Batch) -> Tensor:
    """Return the loss by the formula on the page."""
    lp, w, c = logprobs(model, batch), batch.weights, batch.columns
    if name == "clm":
        return -(lp * w).sum() / w.sum()
    if name == "dpo":
        h = (lp * w).sum(-1) - c["reference"]
        h = objective.config.beta * (h[0::2] - h[1::2])
        return -(0.9 * h.sigmoid().log() + 0.1 * (-h).sigmoid().log()).mean()
    r = (lp - c["old_logprobs"]).exp()
    x = c["reference"] - lp
    each = -torch.min(r * c["advantages"], r.clamp(0.8, 1.3) * c["advantages"]) + 0.1 * (x.exp() - x - 1)
    if name == "grpo/token":
        return (each * w).sum() / w.sum()
    if name == "grpo/sequence":
        return ((each * w).sum(-1) / w.sum(-1)).mean()
    return (each * w).sum() / (len(w) * 16)


def gradient(model: Model, objective: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the loss and the gradient of all parameters in one row."""
    model.zero_grad()
    loss, _ = objective(model, batch)
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_every_objective_is_tested() -> None:
    elsewhere = {"mtp", "exits"}  # they look into the model: tests/model/test_mtp.py and test_exit.py
    assert {name.partition("/")[0] for name in ALL} | elsewhere == set(OBJECTIVES)


@pytest.mark.parametrize("name", ALL)
def test_equals_the_formula(name: str, tiny: Tiny, rows: Rows) -> None:
    objective, complete = make(name)
    model, batch = tiny(), complete(rows())
    loss, metrics = objective(model, batch)
    torch.testing.assert_close(loss, reference_loss(name, objective, model, batch), rtol=1e-5, atol=1e-6)
    assert all(torch.isfinite(value) and not value.requires_grad for value in metrics.values())


@pytest.mark.parametrize("name", ALL)
def test_a_column_that_is_missing_is_named(name: str, tiny: Tiny, rows: Rows) -> None:
    objective, complete = make(name)
    for column in objective.needs:
        batch = complete(rows())
        lacking = replace(batch, columns={k: v for k, v in batch.columns.items() if k != column})
        with pytest.raises(UsageError, match=f"column '{column}'"):
            objective(tiny(), lacking)


@pytest.mark.parametrize("name", ALL)
def test_zero_weight_means_zero_gradient(name: str, tiny: Tiny, rows: Rows) -> None:
    """Change the targets, and the columns, where the weight is zero: nothing may move."""
    objective, complete = make(name)
    model, batch = tiny(), complete(rows())
    silent = batch.weights == 0
    assert silent.any()
    other = {
        key: torch.where(silent, torch.randn_like(value), value) if value.ndim == 2 else value
        for key, value in batch.columns.items()
    }
    changed = replace(batch, targets=torch.where(silent, (batch.targets + 7) % 32, batch.targets), columns=other)
    loss, grad = gradient(model, objective, batch)
    loss2, grad2 = gradient(model, objective, changed)
    assert torch.equal(loss, loss2)
    assert torch.equal(grad, grad2)


@pytest.mark.parametrize("name", ALL)
def test_padding_changes_nothing(name: str, tiny: Tiny, rows: Rows) -> None:
    objective, complete = make(name)
    model, batch = tiny(), complete(rows())
    pad = lambda x, value=0: torch.nn.functional.pad(x, (0, 5), value=value)  # noqa: E731
    width = batch.tokens.shape[1] + 5
    padded = Batch(
        pad(batch.tokens, 3),
        pad(batch.targets, 3),
        pad(batch.weights),
        torch.arange(width).expand(batch.tokens.shape[0], -1),
        None,
        {key: pad(value) if value.ndim == 2 else value for key, value in batch.columns.items()},
    )
    (loss, grad), (loss2, grad2) = gradient(model, objective, batch), gradient(model, objective, padded)
    torch.testing.assert_close(loss, loss2, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad, grad2, rtol=1e-4, atol=1e-5)


def pick(batch: Batch, index: list[int]) -> Batch:
    take = lambda x: x[index]  # noqa: E731
    return Batch(
        take(batch.tokens),
        take(batch.targets),
        take(batch.weights),
        take(batch.positions),
        None,
        {key: take(value) for key, value in batch.columns.items()},
    )


@pytest.mark.parametrize("name", ALL)
def test_order_and_split_change_nothing(name: str, tiny: Tiny, rows: Rows) -> None:
    """Pairs stay together; the shares of the parts are the counts that the objective itself declares."""
    objective, complete = make(name)
    model, batch = tiny(), complete(rows(batch=6))
    loss, grad = gradient(model, objective, batch)
    turned = gradient(model, objective, pick(batch, [4, 5, 0, 1, 2, 3]))
    torch.testing.assert_close((loss, grad), turned, rtol=1e-4, atol=1e-5)
    parts = [pick(batch, [0, 1]), pick(batch, [2, 3, 4, 5])]
    counts = torch.stack([objective.count(part) for part in parts])
    pieces = [gradient(model, objective, part) for part in parts]
    both = [sum(s * piece[i] for s, piece in zip(counts / counts.sum(), pieces, strict=True)) for i in (0, 1)]
    torch.testing.assert_close([loss, grad], both, rtol=1e-4, atol=1e-5)


class Fixed:
    """A policy whose log-probs are given: two tokens, of which the target has the probability asked for."""

    def __init__(self, logp: Tensor) -> None:
        self.table = torch.stack([logp, torch.log1p(-logp.exp())], -1)

    def hidden(self, tokens: Tensor, ctx: Any = None) -> Tensor:
        return self.table

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden


def given(logp: list[list[float]], mask: list[list[float]], **more: Tensor) -> tuple[Fixed, Batch]:
    lp, weights = torch.tensor(logp), torch.tensor(mask, dtype=torch.float32)
    zeros = torch.zeros(lp.shape, dtype=torch.int64)
    return Fixed(lp), Batch(zeros, zeros, weights, zeros, None, more)


def test_published_figures_of_grpo() -> None:
    """GRPO, DAPO (clip-higher, mean over tokens) and Dr. GRPO on one worked example (std-normalised advantages)."""
    old = torch.tensor([[-1.2, -0.5, -1.5], [-0.1, -1.4, 0.0]])
    case = given(
        [[-1.0, -0.5, -2.0], [-0.2, -0.9, -1e-3]],
        [[1, 1, 1], [1, 1, 0]],
        advantages=torch.tensor([[1.0], [-1.0]]).expand(2, 3),
        old_logprobs=old,
    )
    for expected, options in (
        (0.17063453793525696, {"aggregate": "sequence"}),
        (-0.054874956607818604, {"aggregate": "token", "epsilon_high": 0.28}),
        (-0.03162150830030441, {"aggregate": "constant", "max_tokens": 4}),
    ):
        loss, _ = GRPO(GRPO.Config(**options))(*case)  # type: ignore[arg-type]
        assert loss.item() == pytest.approx(expected, abs=1e-5), options


def test_clipping_is_counted_on_the_side_where_it_bites() -> None:
    old = torch.zeros(1, 4)
    policy, batch = given(
        [[-0.5, -0.5, -0.01, -0.01]],
        [[1, 1, 1, 1]],
        advantages=torch.tensor([[1.0, -1.0, 1.0, -1.0]]),
        old_logprobs=old,
    )
    _, metrics = GRPO(GRPO.Config())(policy, batch)
    assert metrics["clip_ratio/low_mean"].item() == 0.25  # only the falling token that should fall is held
    assert metrics["clip_ratio/high_mean"].item() == 0.0
    assert metrics["ratio/min"].item() == pytest.approx(0.60653, abs=1e-4)


def test_published_figures_of_dpo() -> None:
    chosen, rejected = [-10.0, -12.0, -8.0], [-11.0, -11.5, -12.0]
    ref_chosen, ref_rejected = [-10.5, -11.0, -9.0], [-10.0, -12.0, -11.0]
    interleave = lambda a, b: [x for pair in zip(a, b, strict=True) for x in pair]  # noqa: E731
    case = given(
        [[x] for x in interleave(chosen, rejected)],
        [[1.0]] * 6,
        reference=torch.tensor(interleave(ref_chosen, ref_rejected)),
    )
    loss, metrics = DPO(DPO.Config(beta=0.1))(*case)
    assert loss.item() == pytest.approx(sum([0.620957077, 0.770957112, 0.598138869]) / 3, abs=1e-6)
    smooth, _ = DPO(DPO.Config(beta=0.1, label_smoothing=0.1))(*case)
    assert smooth.item() == pytest.approx(sum([0.635957062, 0.755957067, 0.61813885]) / 3, abs=1e-6)
    assert metrics["rewards/accuracies"].item() == pytest.approx(2 / 3)
    assert metrics["rewards/margins"].item() == pytest.approx(0.1 * (1.5 - 1.5 + 2.0) / 3, abs=1e-6)
    assert metrics["logps/chosen"].item() == pytest.approx(-10.0)


def test_k3_estimator() -> None:
    policy, batch = given(
        [[-1.2]],
        [[1.0]],
        advantages=torch.zeros(1, 1),
        old_logprobs=torch.tensor([[-1.2]]),
        reference=torch.tensor([[-1.0]]),
    )
    loss, metrics = GRPO(GRPO.Config(beta=0.5))(policy, batch)
    assert metrics["kl"].item() == pytest.approx(0.0214027581601699, abs=1e-7)
    assert loss.item() == pytest.approx(0.5 * 0.0214027581601699, abs=1e-7)


def test_the_divisor_of_the_constant_aggregate_is_asked_for() -> None:
    with pytest.raises(UsageError, match="max_tokens"):
        GRPO.Config.parse({"aggregate": "constant"})
    with pytest.raises(UsageError, match="max_tokens"):
        GRPO.Config.parse({"aggregate": "token", "max_tokens": 4})
