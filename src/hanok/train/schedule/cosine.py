"""Warm-up, then half a cosine down."""

from __future__ import annotations

import math
from typing import Literal

from hanok.train.schedule import SCHEDULES
from hanok.train.schedule.warmup import Decay, progress, warm


@SCHEDULES.register("cosine", paper="arXiv:1608.03983")
class Cosine:
    """Warm up, then fall along half a cosine to `final`."""

    class Config(Decay):
        """Warm-up share and final factor."""

        kind: Literal["cosine"] = "cosine"

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, step: int, total: int) -> float:
        """Return the factor of a step."""
        factor = warm(step, total, self.config.warmup)
        if factor is not None:
            return factor
        fall = 0.5 * (1 + math.cos(math.pi * progress(step, total, self.config.warmup)))
        return self.config.final + (1 - self.config.final) * fall
