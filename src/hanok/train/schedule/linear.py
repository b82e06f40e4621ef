"""Warm-up, then a straight line down."""

from __future__ import annotations

from typing import Literal

from hanok.train.schedule import SCHEDULES
from hanok.train.schedule.warmup import Decay, progress, warm


@SCHEDULES.register("linear")
class Linear:
    """Warm up, then fall in a straight line to `final`."""

    class Config(Decay):
        """Warm-up share and final factor."""

        kind: Literal["linear"] = "linear"

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, step: int, total: int) -> float:
        """Return the factor of a step."""
        factor = warm(step, total, self.config.warmup)
        if factor is not None:
            return factor
        return 1 - (1 - self.config.final) * progress(step, total, self.config.warmup)
