"""The form of an answer, whatever it says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import field_validator

from hanok.align.reward import REWARDS
from hanok.align.reward.base import RewardConfig


@REWARDS.register("format")
class Format:
    """Score 1 where the whole completion, stripped, matches a regular expression of the user's own, else 0."""

    class Config(RewardConfig):
        """The pattern; by default one line of text."""

        kind: Literal["format"] = "format"
        pattern: str = r"\S[^\n]*"

        @field_validator("pattern")
        @classmethod
        def _compiles(cls, pattern: str) -> str:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"no valid regular expression: {error}") from None
            return pattern

    def __init__(self, config: Config) -> None:
        self.config, self._pattern = config, re.compile(config.pattern)

    def __call__(self, prompts: Sequence[Any], completions: Sequence[str], **columns: Sequence[Any]) -> list[float]:
        """Return 1 or 0 for each completion."""
        return [float(self._pattern.fullmatch(text.strip()) is not None) for text in completions]
