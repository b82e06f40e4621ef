"""Warm-up, stable, decay."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hanok.train.schedule import SCHEDULES
from hanok.train.schedule.warmup import Decay, progress, warm


@SCHEDULES.register("wsd", paper="arXiv:2404.06395")
class WSD:
    """Warm up, hold the full rate, and fall in a straight line over the last `decay` share."""

    class Config(Decay):
        """Shares of warm-up and decay, and the final factor."""

        kind: Literal["wsd"] = "wsd"
        decay: float = Field(0.2, ge=0, le=1)

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if self.warmup + self.decay > 1:
                raise ValueError(
                    f"warmup {self.warmup} and decay {self.decay} are shares of one run: their sum is above 1"
                )
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, step: int, total: int) -> float:
        """Return the factor of a step."""
        factor = warm(step, total, self.config.warmup)
        if factor is not None:
            return factor
        return 1 - (1 - self.config.final) * progress(step, total, 1 - self.config.decay)
