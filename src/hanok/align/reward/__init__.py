"""Rewards: verifiable scores of completions, by name; a user's own function has the same signature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from hanok.core.registry import Registry

REWARDS: Registry[Any] = Registry("reward", __name__)


class Reward(Protocol):
    """TRL's shape: `fn(prompts, completions, **columns)` returns one number for each completion.

    Columns are those of the data, one value for each completion, and `finished`: whether it ended by itself.
    """

    def __call__(self, prompts: Sequence[Any], completions: Sequence[str], **columns: Sequence[Any]) -> Sequence[float]:
        """Return a score for each completion."""
        ...
