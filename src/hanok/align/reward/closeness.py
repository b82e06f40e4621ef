"""Partial credit: how much of the answer stands in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hanok.align.reward import REWARDS
from hanok.align.reward.base import RewardConfig, need


@REWARDS.register("closeness")
class Closeness:
    """The share of characters that equal the column `answer` at the same place, white space around both aside.

    A group of completions that are all wrong still tells better from worse, where exact match tells nothing.
    """

    class Config(RewardConfig):
        """Its weight."""

        kind: Literal["closeness"] = "closeness"

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, prompts: Sequence[Any], completions: Sequence[str], **columns: Sequence[Any]) -> list[float]:
        """Return scores in [0, 1]; 1 only for equal text."""
        answers = need(columns, "answer", "closeness")
        return [closeness(said.strip(), str(answer).strip()) for said, answer in zip(completions, answers, strict=True)]


def closeness(said: str, answer: str) -> float:
    """Return equal places divided by the longer length; two empty texts are equal."""
    longest = max(len(said), len(answer))
    return sum(a == b for a, b in zip(said, answer, strict=False)) / longest if longest else 1.0
