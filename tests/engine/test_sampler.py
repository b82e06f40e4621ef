"""Sampling: filters against plain references, draws against the enumerated distribution."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hanok.engine.choose import choose, invert, log_probs, narrow
from hanok.engine.request import Request
from hanok.engine.sampler import SAMPLERS

FILTERS = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([1.0, 0.2, 0.7, 1.9]),
        "top_k": st.sampled_from([0, 1, 3, 10, 50]),
        "top_p": st.sampled_from([1.0, 0.01, 0.5, 0.9, 0.999]),
        "min_p": st.sampled_from([0.0, 0.05, 0.3, 1.0]),
        "typical_p": st.sampled_from([1.0, 0.2, 0.9]),
    }
)


def reference(
    logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float, typical_p: float
) -> dict[int, float]:
    """The chain in plain Python: token -> probability of what is left."""
    left = {token: logit / temperature for token, logit in enumerate(logits)}
    if top_k:
        border = sorted(left.values(), reverse=True)[min(top_k, len(left)) - 1]
        left = {token: logit for token, logit in left.items() if logit >= border}
    if top_p < 1:
        total, kept = 0.0, {}
        for token, share in sorted(shares(left).items(), key=lambda item: (-item[1], item[0])):
            if total < top_p:
                kept[token] = left[token]
            total += share
        left = kept
    if min_p:
        best = max(shares(left).values())
        left = {token: left[token] for token, share in shares(left).items() if share >= min_p * best * (1 - 1e-12)}
    if typical_p < 1:
        entropy = -math.fsum(share * math.log(share) for share in shares(left).values())
        away = {token: abs(-math.log(share) - entropy) for token, share in shares(left).items()}
        total, border = 0.0, math.inf
        for token in sorted(away, key=lambda token: away[token]):
            total += shares(left)[token]
            if total >= typical_p:
                border = away[token]
                break
        left = {token: left[token] for token in left if away[token] <= border + 1e-9}
    return shares(left)


def shares(logits: dict[int, float]) -> dict[int, float]:
    top = max(logits.values())
    weights = {token: math.exp(logit - top) for token, logit in logits.items()}
    total = math.fsum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 10**6), FILTERS), min_size=1, max_size=5))
def test_filters_equal_a_plain_reference(rows: list[tuple[int, dict[str, Any]]]) -> None:
    """Each row of a mixed batch is filtered as if alone, and as the plain code says."""
    logits = torch.stack([torch.randn(12, generator=torch.Generator().manual_seed(seed)) * 3 for seed, _ in rows])
    requests = [Request([0], **filters) for _, filters in rows]
    got = narrow(logits.double(), requests).softmax(-1)
    for row, (_, filters) in enumerate(rows):
        want = reference(logits[row].double().tolist(), **filters)
        assert {at for at, share in enumerate(got[row].tolist()) if share} == set(want)
        for token, share in want.items():
            assert got[row, token].item() == pytest.approx(share, rel=1e-9)


def test_ties() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0, 0.0]], dtype=torch.float64)
    kept = lambda **filters: narrow(logits, [Request([0], **filters)]).isfinite()[0].tolist()  # noqa: E731
    assert kept(top_k=1) == [False, True, True, False]
    assert kept(top_p=0.3) == [False, True, False, False]
    assert kept(min_p=1.0) == [False, True, True, False]


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 4},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"typical_p": 0.97},
        {"top_k": 6, "top_p": 0.9},
    ],
    ids=str,
)
def test_draws_follow_the_distribution(filters: dict[str, Any]) -> None:
    """Chi-square of 20,000 draws against the enumerated softmax of what the filters leave."""
    count, logits = 20_000, torch.randn(1, 9) * 2
    request, rng = Request([0], **filters), random.Random(4)
    tokens = choose(logits.expand(count, -1), [request] * count, [rng.random() for _ in range(count)])
    want = reference(logits[0].double().tolist(), **request.sampling)  # type: ignore[arg-type]
    seen = np.bincount(tokens.numpy(), minlength=9)
    assert seen.sum() == sum(seen[token] for token in want)  # nothing that was filtered out
    expected = np.array([share * count for share in want.values()])
    assert stats.chisquare([seen[token] for token in want], expected).pvalue > 1e-3
    if len(want) > 2:  # control arm: a wrong distribution is seen
        assert stats.chisquare([seen[token] for token in want], np.roll(expected, 1)).pvalue < 1e-3


def test_temperature_zero_is_the_best_and_neighbours_do_not_matter() -> None:
    logits = torch.randn(6, 50)
    requests = [Request([0], temperature=t, top_k=k) for t, k in [(0, 0), (1, 0), (0, 3), (2, 5), (1, 1), (0.5, 0)]]
    uniforms = [0.1, 0.5, 0.9, 0.3, 0.7, 0.2]
    together = choose(logits, requests, uniforms)
    for at, (request, uniform) in enumerate(zip(requests, uniforms, strict=True)):
        assert together[at] == choose(logits[at : at + 1], [request], [uniform])[0]
    best = logits.argmax(-1)
    assert together[0] == best[0] and together[2] == best[2] and together[4] == best[4]


def test_tiny_temperature_is_nearly_greedy() -> None:
    logits = torch.tensor([[1.0, 1.5, -3.0]])
    assert choose(logits, [Request([0], temperature=1e-300)], [0.999999])[0] == 1


def test_inverse_cdf_edges() -> None:
    shares = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]], dtype=torch.float64)
    draw = lambda u: int(invert(shares, torch.tensor([[u]], dtype=torch.float64))[0])  # noqa: E731
    assert [draw(u) for u in (0.0, 0.2499, 0.25, 0.9, 1 - 2**-53)] == [1, 1, 3, 3, 3]
    # a total that is not 1 and a product that rounds up to it: still a token that has a share
    uneven = torch.full((1, 7), 1 / 7 + 2e-17, dtype=torch.float64)
    assert int(invert(uneven, torch.tensor([[1 - 2**-53]], dtype=torch.float64))[0]) == 6


def test_log_probs_are_float32_at_least() -> None:
    assert log_probs(torch.zeros(4, dtype=torch.bfloat16)).dtype == torch.float32
    assert log_probs(torch.zeros(4, dtype=torch.float64)).dtype == torch.float64


def test_registry() -> None:
    assert set(SAMPLERS) == {"temperature", "top_k", "top_p", "min_p", "typical_p"}
    assert set(SAMPLERS) == set(Request([0]).sampling)
    assert all(entry.summary for entry in SAMPLERS.describe())
    assert all(SAMPLERS[name].off == Request([0]).sampling[name] for name in SAMPLERS)
