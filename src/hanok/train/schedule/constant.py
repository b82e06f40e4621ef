"""Warm-up, then the full rate."""

from __future__ import annotations

from typing import Literal

from hanok.train.schedule import SCHEDULES
from hanok.train.schedule.warmup import Warmup, warm


@SCHEDULES.register("constant")
class Constant:
    """Warm up, then hold the full rate to the end."""

    class Config(Warmup):
        """Share of the warm-up."""

        kind: Literal["constant"] = "constant"

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, step: int, total: int) -> float:
        """Return the factor of a step."""
        factor = warm(step, total, self.config.warmup)
        return 1.0 if factor is None else factor
