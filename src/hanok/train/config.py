"""What every kind of training is told: how long, how much at once, with which parts, and when to save."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from hanok.core.config import Config, spec_type
from hanok.train.ema import EMAConfig
from hanok.train.hook.track import TRACKERS
from hanok.train.loop import LoopConfig
from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.adamw import AdamWConfig
from hanok.train.parallel.config import ParallelConfig
from hanok.train.schedule import SCHEDULES
from hanok.train.schedule.linear import Linear


class TrainingConfig(Config):
    """The part that pre-training, fine-tuning, preference learning and RL share.

    A run lasts `steps`, or `minutes`, which a few trial steps turn into a number of steps before the first one.
    Weights are float32 while they learn, whatever they were loaded as; `loop.compute` says how they are multiplied.
    A checkpoint is written every `save_every` steps (0: not by steps) or `save_seconds`, whichever comes first.
    `batch` counts the rows of a step over all processes of `parallel`, which is no part of what a run is: it may go on
    under another layout, and the identity of the run leaves it out.
    `track` names the trackers that are told every record besides metrics.jsonl; it too is no part of the run.
    With `ema`, the model that the run hands on is an average over its steps; the raw weights are in the checkpoint.
    """

    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    batch: int = Field(8, ge=1)
    length: int = Field(128, ge=2)
    optimizer: spec_type(OPTIMIZERS) = AdamWConfig()  # type: ignore[valid-type]
    schedule: spec_type(SCHEDULES) = Linear.Config()  # type: ignore[valid-type]
    loop: LoopConfig = LoopConfig()
    ema: EMAConfig | None = None
    parallel: ParallelConfig = Field(ParallelConfig(), exclude=True)
    track: tuple[str, ...] = Field((), exclude=True)
    seed: int = 0
    device: str = "auto"
    save_every: int = Field(0, ge=0)
    save_seconds: float = Field(30.0, gt=0)
    keep: int = Field(2, ge=1)
    validate_every: int = Field(0, ge=0)

    @field_validator("track")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            TRACKERS[name]
        return names

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes")
        return self
