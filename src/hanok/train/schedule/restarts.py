"""Warm-up, then half cosines one after the other."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from hanok.train.schedule import SCHEDULES
from hanok.train.schedule.warmup import Decay, warm


@SCHEDULES.register("restarts", paper="arXiv:1608.03983")
class Restarts:
    """Warm up, then fall along half a cosine to `final`, jump back up and fall again, in `cycles` of growing length.

    Just before each jump, and at the end, the run is a finished one: SGDR's snapshots.
    """

    class Config(Decay):
        """How many cycles fill the run; each is `growth` times as long and peaks `peak` times as high as the last."""

        kind: Literal["restarts"] = "restarts"
        cycles: int = Field(3, ge=1)
        growth: float = Field(2.0, gt=0)
        peak: float = Field(1.0, gt=0, le=1)

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, step: int, total: int) -> float:
        """Return the factor of a step."""
        factor = warm(step, total, self.config.warmup)
        if factor is not None:
            return factor
        ends = self.ends(total)
        cycle = next(number for number, end in enumerate(ends) if step < end or number == len(ends) - 1)
        start = ends[cycle - 1] if cycle else round(self.config.warmup * total)
        share = min(1.0, (step - start) / max(1, ends[cycle] - start))
        fall = 0.5 * (1 + math.cos(math.pi * share))
        return self.config.final + (self.config.peak**cycle - self.config.final) * fall

    def ends(self, total: int) -> list[int]:
        """Return the step that follows each cycle; the last is `total`."""
        first = round(self.config.warmup * total)
        lengths = [self.config.growth**cycle for cycle in range(self.config.cycles)]
        shares = [sum(lengths[: cycle + 1]) / sum(lengths) for cycle in range(self.config.cycles)]
        return [first + round(share * (total - first)) for share in shares]
