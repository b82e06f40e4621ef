"""What all schedules share: a linear warm-up, then a shape over the rest of the steps."""

from __future__ import annotations

from typing import Protocol, Self

from pydantic import Field, model_validator

from hanok.core.config import PartConfig


class Schedule(Protocol):
    """A learning-rate factor in [0, 1] for each step of `total`."""

    def __call__(self, step: int, total: int) -> float:
        """Return the factor of a step (0 .. total - 1)."""
        ...


class Warmup(PartConfig):
    """The share of all steps spent warming up."""

    warmup: float = Field(0.05, ge=0, le=1)


class Decay(Warmup):
    """The warm-up's share, and the factor that the decay ends at."""

    final: float = Field(0.0, ge=0, le=1)


class Cooldown(Decay):
    """Shares of warm-up and decay, and the factor that the decay ends at."""

    decay: float = Field(0.2, ge=0, le=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup {self.warmup} and decay {self.decay} are shares of one run: their sum is above 1")
        return self


def warm(step: int, total: int, share: float) -> float | None:
    """Return the factor inside the warm-up, which never starts at zero, or None after it."""
    steps = round(share * total)
    return (step + 1) / steps if step < steps else None


def progress(step: int, total: int, start: float) -> float:
    """Return how far a step lies between `start` (a share of all steps) and the end, in [0, 1)."""
    first = round(start * total)
    return min(1.0, max(0.0, (step - first) / max(1, total - first)))
