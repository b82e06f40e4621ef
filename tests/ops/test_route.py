"""Routing: groups against a loop over tokens, losses against transformers and published values."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func as mixtral_loss
from transformers.models.switch_transformers import modeling_switch_transformers as switch

from hanok.ops.matmul import linear
from hanok.ops.numerics import numerics
from hanok.ops.route import (
    balance_loss,
    best_groups,
    bias_step,
    combine,
    dispatch,
    group,
    grouped,
    load,
    sequence_balance_loss,
    within_capacity,
    z_loss,
)


@pytest.fixture(scope="session")
def moe(shared_data: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((shared_data / "reference_values.json").read_text())["moe"]
    return data


def test_losses_have_the_library_values(moe: dict[str, Any]) -> None:
    logits = torch.tensor(moe["logits"])
    probs = logits.softmax(-1)
    one, two = probs.topk(1).indices, probs.topk(2).indices
    assert float(balance_loss(probs, one)) == pytest.approx(moe["mixtral_aux_topk1"], rel=1e-6)
    assert float(balance_loss(probs, two)) == pytest.approx(moe["mixtral_aux_topk2"], rel=1e-6)
    assert float(balance_loss(probs[None], one[None])) == pytest.approx(moe["switch_aux"], rel=1e-6)
    assert float(balance_loss(probs, one)) == pytest.approx(moe["switch_formula_N_sum_fP"], rel=1e-6)
    assert float(z_loss(logits)) == pytest.approx(moe["router_z_loss"], rel=1e-6)


@pytest.mark.parametrize(("experts", "k"), [(4, 1), (8, 2), (7, 3)])
def test_losses_equal_the_library_functions(experts: int, k: int) -> None:
    logits = torch.randn(3, 11, experts) * 2
    probs = logits.softmax(-1)
    chosen = probs.topk(k).indices
    flat = logits.flatten(0, 1)
    ours = balance_loss(probs.flatten(0, 1), chosen.flatten(0, 1))
    torch.testing.assert_close(ours, mixtral_loss((flat,), experts, k))
    # Several layers: the library takes means over all of them before it multiplies.
    both = torch.cat([flat, flat.flip(0) * 0.3])
    ours = balance_loss(both.softmax(-1), both.topk(k).indices)
    torch.testing.assert_close(ours, mixtral_loss((flat, flat.flip(0) * 0.3), experts, k))
    torch.testing.assert_close(
        balance_loss(probs, probs.topk(1).indices), switch.load_balancing_loss_func(probs, probs.argmax(-1))
    )
    torch.testing.assert_close(z_loss(logits), switch.router_z_loss_func(logits))


def test_even_loads_give_one_for_switch_and_k_for_mixtral() -> None:
    probs = torch.full((8, 4), 0.25)
    one = torch.arange(8)[:, None] % 4
    assert float(balance_loss(probs, one)) == 1
    assert float(balance_loss(probs, torch.cat([one, (one + 1) % 4], -1))) == 2
    assert float(sequence_balance_loss(probs[None] * 7, torch.cat([one, (one + 1) % 4], -1)[None])) == 1
    assert float(balance_loss(F.one_hot(torch.zeros(8, dtype=torch.int64), 4).float(), one * 0)) == 4, "all in one"


def test_without_a_token_every_loss_is_zero_and_so_is_its_gradient() -> None:
    scores, experts = torch.rand(1, 0, 4, requires_grad=True), torch.zeros(1, 0, 2, dtype=torch.int64)
    for loss in (balance_loss(scores, experts), sequence_balance_loss(scores, experts), z_loss(scores)):
        assert float(loss.detach()) == 0
        loss.backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None and scores.grad.shape == scores.shape


def test_sequence_loss_is_the_formula_of_the_paper() -> None:
    scores, k, (batch, length, number) = torch.rand(2, 5, 6), 2, (2, 5, 6)
    chosen = scores.topk(k).indices
    total = 0.0
    for b in range(batch):
        for e in range(number):
            f = number / (k * length) * sum(int(e in chosen[b, t]) for t in range(length))
            p = sum(float(scores[b, t, e] / scores[b, t].sum()) for t in range(length)) / length
            total += f * p / batch
    assert float(sequence_balance_loss(scores, chosen)) == pytest.approx(total, rel=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 9), st.integers(1, 6), st.integers(1, 3), st.integers(0, 10**6), st.booleans())
def test_groups_equal_a_loop_over_tokens(tokens: int, number: int, k: int, seed: int, drop: bool) -> None:
    g = torch.Generator().manual_seed(seed)
    x, weights = torch.randn(tokens, 5, generator=g), torch.rand(tokens, k, generator=g)
    matrices, biases = torch.randn(number, 7, 5, generator=g), torch.randn(number, 7, generator=g)
    experts = torch.randint(0, number, (tokens, k), generator=g)
    kept = torch.rand(tokens, k, generator=g) > 0.4 if drop else None
    want = torch.zeros(tokens, 7)
    for n in range(tokens):
        for j in range(k):
            if kept is None or kept[n, j]:
                e = int(experts[n, j])
                want[n] += weights[n, j] * (matrices[e] @ x[n] + biases[e])
    groups = group(experts, number, kept)
    assert sum(groups.counts) == (tokens * k if kept is None else int(kept.sum()))
    used = [e for e in range(number) if groups.counts[e]] or [0]
    networks = [partial(F.linear, weight=matrices[e], bias=biases[e]) for e in used]
    rows = grouped(dispatch(x, groups), [groups.counts[e] for e in used], networks)
    torch.testing.assert_close(combine(rows, groups, weights), want)


def test_gradients_of_the_grouped_form_equal_those_of_the_loop() -> None:
    x, w = torch.randn(9, 4, dtype=torch.float64), torch.randn(3, 6, 4, dtype=torch.float64)
    weights, experts = torch.rand(9, 2, dtype=torch.float64), torch.tensor([[0, 2]] * 5 + [[2, 0]] * 4)
    for tensor in (x, w, weights):
        tensor.requires_grad_()
    kept = torch.ones(9, 2, dtype=torch.bool)
    kept[4, 1] = kept[7, 0] = False

    def whole(x: torch.Tensor, w: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        groups = group(experts, 3, kept)
        networks = [partial(F.linear, weight=matrix) for matrix in w.unbind(0)]
        return combine(grouped(dispatch(x, groups), groups.counts, networks), groups, weights)

    assert torch.autograd.gradcheck(whole, (x, w, weights))
    whole(x, w, weights).sum().backward()
    assert w.grad is not None and not w.grad[1].any() and w.grad[0].any(), "the idle expert's gradient is zero"


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(5, 6), (16, 48), (37, 3)], ids=str)
def test_exact_bits_of_a_row_do_not_depend_on_the_others(shape: tuple[int, int], dtype: torch.dtype) -> None:
    inputs, outputs = shape
    x, w = torch.randn(150, inputs, dtype=dtype), torch.randn(3, outputs, inputs, dtype=dtype)
    experts, weights = torch.randint(0, 3, (150, 2)), torch.rand(150, 2)

    def run(rows: torch.Tensor) -> torch.Tensor:
        groups = group(experts[rows], 3)
        used = [e for e in range(3) if groups.counts[e]]
        counts = [groups.counts[e] for e in used]
        y = grouped(dispatch(x[rows], groups), counts, [partial(linear, weight=w[e]) for e in used])
        return combine(y, groups, weights[rows])

    with numerics("exact"):
        whole = run(torch.arange(150))
        for rows in (torch.tensor([7]), torch.arange(33, 97), torch.randperm(150)[:41]):
            assert torch.equal(run(rows), whole[rows])


def test_best_groups_by_hand() -> None:
    scores = torch.tensor([0.9, 0.0, 0.5, 0.6, 0.7, 0.1])
    assert best_groups(scores, 3, 1, 1).tolist() == [True, True, False, False, False, False]
    assert best_groups(scores, 3, 1, 2).tolist() == [False, False, True, True, False, False]
    assert best_groups(scores, 3, 2, 2).tolist() == [True, True, True, True, False, False]


def test_capacity_is_first_come_first_served_in_each_row() -> None:
    experts = torch.tensor([[0, 1, 0, 0, 1], [1, 1, 1, 0, 0]]).unsqueeze(-1)
    kept = within_capacity(experts, 2, 2).squeeze(-1)
    assert kept.tolist() == [[True, True, True, False, True], [True, True, False, True, True]]


def test_the_bias_moves_towards_even_loads() -> None:
    assert load(torch.tensor([[0, 1], [0, 2], [0, 0]]), 4).tolist() == [4, 1, 1, 0]
    moved = bias_step(torch.zeros(3), torch.tensor([5, 3, 1]), 0.1)
    torch.testing.assert_close(moved, torch.tensor([-0.1, 0.0, 0.1]))
