"""Warm-up, then a power of the step, and a straight line down at the end."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from hanok.train.schedule import SCHEDULES
from hanok.train.schedule.warmup import Cooldown, progress, warm


@SCHEDULES.register("power", paper="arXiv:2408.13359")
class Power:
    """Warm up over w steps, then fall as (w / step)^exponent, and in a straight line over the last `decay` share.

    An exponent of 0.5 without a decay is the inverse square root of the first Transformer (arXiv:1706.03762). As the
    middle part knows no end, a run can be prolonged from before its decay.
    """

    class Config(Cooldown):
        """Shares of warm-up and decay, the exponent (0.51 was found over sizes and lengths), the final factor."""

        kind: Literal["power"] = "power"
        exponent: float = Field(0.51, gt=0)
        decay: float = Field(0.1, ge=0, le=1)

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, step: int, total: int) -> float:
        """Return the factor of a step."""
        factor = warm(step, total, self.config.warmup)
        if factor is not None:
            return factor
        steps = max(1, round(self.config.warmup * total))
        fall = math.pow(steps / (step + 1), self.config.exponent)
        left = 1 - progress(step, total, 1 - self.config.decay) if self.config.decay else 1.0
        return min(1.0, fall) * (self.config.final + (1 - self.config.final) * left)
