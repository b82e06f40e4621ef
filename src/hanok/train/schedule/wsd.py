"""Warm-up, stable, decay."""

from __future__ import annotations

from typing import Literal

from hanok.train.schedule import SCHEDULES
from hanok.train.schedule.warmup import Cooldown, progress, warm


@SCHEDULES.register("wsd", paper="arXiv:2404.06395")
class WSD:
    """Warm up, hold the full rate, and fall in a straight line over the last `decay` share."""

    class Config(Cooldown):
        """Shares of warm-up and decay, and the final factor."""

        kind: Literal["wsd"] = "wsd"

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, step: int, total: int) -> float:
        """Return the factor of a step."""
        factor = warm(step, total, self.config.warmup)
        if factor is not None:
            return factor
        return 1 - (1 - self.config.final) * progress(step, total, 1 - self.config.decay)
