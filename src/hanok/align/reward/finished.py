"""Whether an answer came to an end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hanok.align.reward import REWARDS
from hanok.align.reward.base import RewardConfig, need


@REWARDS.register("finished")
class Finished:
    """Score 1 where the model ended its turn by itself, 0 where the token budget cut it off."""

    class Config(RewardConfig):
        """Its weight."""

        kind: Literal["finished"] = "finished"

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, prompts: Sequence[Any], completions: Sequence[str], **columns: Sequence[Any]) -> list[float]:
        """Return 1 or 0 for each completion."""
        return [float(done) for done in need(columns, "finished", "finished")]
