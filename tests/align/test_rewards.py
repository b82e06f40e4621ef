"""Rewards and advantages: small functions with known answers."""

from __future__ import annotations

import pytest
import torch

from hanok.align.advantage import ADVANTAGES
from hanok.align.reward import REWARDS
from hanok.core.errors import UsageError

REWARDS_GROUP = torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0]])


def advantage(kind: str) -> torch.Tensor:
    part = ADVANTAGES[kind]
    result: torch.Tensor = part(part.Config())(REWARDS_GROUP)
    return result


def test_published_figures() -> None:
    expected = [0.730163336, -1.09524512, -1.09524512, 0.730163336, 0.730163336]
    torch.testing.assert_close(advantage("grpo"), torch.tensor([expected]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(advantage("dr_grpo"), torch.tensor([[0.4, -0.6, -0.6, 0.4, 0.4]]))
    torch.testing.assert_close(advantage("rloo"), torch.tensor([[0.5, -0.75, -0.75, 0.5, 0.5]]))


@pytest.mark.parametrize("kind", list(ADVANTAGES))
def test_invariants(kind: str) -> None:
    """Nothing for a group of equals, zero on average, and blind to what is added to every reward."""
    part = ADVANTAGES[kind]
    one = part(part.Config())
    assert torch.equal(one(torch.full((2, 4), 0.7)), torch.zeros(2, 4))
    rewards = torch.randn(3, 8)
    torch.testing.assert_close(one(rewards).sum(-1), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(one(rewards + 5), one(rewards), rtol=1e-4, atol=1e-5)
    assert torch.equal(one(rewards).argsort(-1), rewards.argsort(-1))


def reward(kind: str, **options: object) -> object:
    part = REWARDS[kind]
    return part(part.Config.parse({"kind": kind, **options}))


def test_exact_match_uses_the_scorer_of_the_task() -> None:
    score = reward("exact_match")
    prompts = ["3 + 4 = ?", [{"role": "user", "content": "x"}], "y"]
    columns = {"answer": ["7", "abc", "q"], "task": ["addition", "copy", None]}
    assert score(prompts, ["7", "abc", " q \n"], **columns) == [1.0, 1.0, 1.0]  # type: ignore[operator]
    assert score(prompts, ["8", "abd", "qq"], **columns) == [0.0, 0.0, 0.0]  # type: ignore[operator]
    with pytest.raises(UsageError, match="column 'answer'"):
        score(prompts, ["a", "b", "c"])  # type: ignore[operator]
    with pytest.raises(UsageError, match=r"unknown task 'adition'; did you mean 'addition'"):
        score(["x"], ["1"], answer=["1"], task=["adition"])  # type: ignore[operator]


def test_format_and_finished() -> None:
    texts = ["one line", "two\nlines", "  ", ""]
    assert reward("format")([None] * 4, texts) == [1.0, 0.0, 0.0, 0.0]  # type: ignore[operator]
    assert reward("format", pattern=r"\d+")([None] * 2, ["12", "1a"]) == [1.0, 0.0]  # type: ignore[operator]
    assert reward("finished")([None] * 2, ["a", "b"], finished=[True, False]) == [1.0, 0.0]  # type: ignore[operator]
    with pytest.raises(UsageError, match="no valid regular expression"):
        reward("format", pattern="(")


def test_closeness_gives_partial_credit() -> None:
    texts = ["a b c", "a b d", "a b c d", "", "x"]
    scores = reward("closeness")([None] * 5, texts, answer=["a b c"] * 5)  # type: ignore[operator]
    assert scores == [1.0, 4 / 5, 5 / 7, 0.0, 0.0]
    assert reward("closeness")([None], [" "], answer=[""]) == [1.0]  # type: ignore[operator]
