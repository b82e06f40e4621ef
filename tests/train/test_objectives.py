"""Objectives against published figures, and what is peculiar to each; what they share is in conformance/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.nn.context import Dense
from hanok.ops.linear_cross_entropy import Losses
from hanok.ops.numerics import numerics
from hanok.text.batch import Batch
from hanok.train.objective import OBJECTIVES
from hanok.train.objective.base import MANY, TokenMean
from hanok.train.objective.clm import NextToken
from hanok.train.objective.dpo import DPO
from hanok.train.objective.grpo import GRPO

Rows = Callable[..., Batch]
Tiny = Callable[..., Model]


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


@torch.no_grad()
def test_a_prefix_is_read_both_ways_and_the_rest_one_way(tiny: Tiny, rows: Rows) -> None:
    """Which tokens each output depends on, found by changing one token at a time."""
    for dials in ({}, {"heads": 2, "kv_heads": 1}):
        model, batch = tiny(**dials), rows(batch=1, length=8)
        prefix = torch.arange(8)[None] < 4
        whole = model(batch.tokens, Dense(batch.tokens, prefix=prefix))
        for place in range(8):
            other = batch.tokens.clone()
            other[0, place] = (other[0, place] + 1) % 32
            moved = (model(other, Dense(other, prefix=prefix)) != whole).any(-1)[0].nonzero()[:, 0].tolist()
            assert moved == (list(range(8)) if place < 4 else list(range(place, 8)))
        alone = model(batch.tokens, Dense(batch.tokens, prefix=torch.arange(8)[None] < 1))
        torch.testing.assert_close(alone, model(batch.tokens))  # a prefix of one token is none


@torch.no_grad()
def test_a_prefix_stays_in_its_document(tiny: Tiny, rows: Rows) -> None:
    model, batch = tiny(), rows(batch=1, length=8)
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])
    prefix = torch.tensor([[1, 1, 0, 0, 1, 1, 1, 0]]) > 0
    positions = torch.arange(8)[None] % 4
    packed = model(batch.tokens, Dense(batch.tokens, positions, segments, prefix=prefix))
    apart = [model(batch.tokens[:, s], Dense(batch.tokens[:, s], prefix=prefix[:, s])) for s in (slice(4), slice(4, 8))]
    torch.testing.assert_close(packed, torch.cat(apart, 1))


def test_what_cannot_read_a_prefix_says_so(tiny: Tiny, rows: Rows) -> None:
    batch = rows().with_columns(prefix=torch.ones(4, 9))
    objective = OBJECTIVES["prefix_lm"](OBJECTIVES["prefix_lm"].Config())
    with pytest.raises(UsageError, match="a recurrence reads one way"):
        objective(tiny("griffin-tiny", depth=3), batch)
    with numerics("exact"), pytest.raises(UsageError, match="exact numerics read from the left"):
        objective(tiny(), batch)


FITS = {
    "clm": {"llama-tiny", "mamba-tiny"},
    "mtp": {"llama-tiny", "mamba-tiny"},
    "exits": {"llama-tiny", "mamba-tiny"},
    "prefix_lm": {"llama-tiny"},
    "mlm": {"bert"},
    "span_corruption": {"transformer"},
}


@pytest.mark.parametrize("name", FITS)
def test_an_objective_refuses_models_that_could_not_learn_by_it(name: str, tiny: Tiny) -> None:
    """An encoder would see the targets of next-token prediction, and so on: said before a run begins."""
    objective = OBJECTIVES[name](OBJECTIVES[name].Config(**({"layers": (1,)} if name == "exits" else {})))
    for kind, dials in (("llama-tiny", {}), ("mamba-tiny", {}), ("bert", {"heads": 2}), ("transformer", {"heads": 2})):
        model = tiny(kind, **dials)
        if kind in FITS[name]:
            objective.fits(model)
        else:
            with pytest.raises(UsageError, match=f"'{name}'"):
                objective.fits(model)


def test_every_objective_over_text_says_which_models_fit() -> None:
    assert {name for name in OBJECTIVES if issubclass(OBJECTIVES[name], TokenMean)} == set(FITS)


@pytest.mark.parametrize("kind", ["llama-tiny", "gpt-tiny", "bert", "mamba-tiny"])
def test_before_the_head_is_what_the_head_multiplies(kind: str, tiny: Tiny) -> None:
    model = tiny(kind, **({"heads": 2} if kind == "bert" else {}))
    states = torch.randn(5, 16)
    found = model.before_head(states)
    assert found is not None
    torch.testing.assert_close(found[1].logits(found[0]), model.logits(states), rtol=0, atol=0)


def test_pieces_are_taken_where_whole_logits_would_be_large(
    tiny: Tiny, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    monkeypatch.setattr(
        "hanok.train.objective.base.linear_cross_entropy", lambda *args: (taken.append(len(args[0])), LOSSES)[1]
    )
    monkeypatch.setattr("hanok.train.objective.base.MANY", 32 * 9)
    clm = NextToken(NextToken.Config())
    clm(tiny(), rows(batch=1))
    assert not taken
    clm(tiny(), rows(batch=9))
    assert taken
    assert MANY > 10**8
    with pytest.raises(UsageError, match="plain matrix"):
        NextToken(NextToken.Config(logits="pieces"))(*given([[-1.0]], [[1.0]]))


LOSSES = Losses(*torch.ones(4, requires_grad=True).unbind())
