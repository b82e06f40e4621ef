"""Weights over a run: shares that change at points of it, and a curriculum from easy to hard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator

from hanok.core.config import Config, spec_type
from hanok.core.errors import UsageError, suggest
from hanok.text.data.score import SCORES
from hanok.text.data.score.length import Length
from hanok.text.data.shares import Knot

Point = tuple[float, list[float]]  # a point of the run in [0, 1], and the weights there


class Change(Config):
    """New shares from `start` (a point of the run in [0, 1]) on, reached in a straight line over `ramp` of the run."""

    start: float = Field(ge=0, le=1)
    ramp: float = Field(0.0, ge=0, le=1)
    weights: dict[str, float] = Field(min_length=1)

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.start + self.ramp > 1:
            raise ValueError(f"a change from {self.start} over {self.ramp} would end after the run")
        return self


class Curriculum(Config):
    """Documents by a score, in `buckets` of equally many tokens: easy ones first, all of them after `pace` of the run.

    The share of the data that is in use (its competence) grows as c(t) = sqrt(t (1 - c0^2) / pace + c0^2), c0 being
    the first bucket. Platanios et al. 2019, arXiv:1903.09848. `descending` begins with the highest scores.
    """

    by: spec_type(SCORES) = Length.Config()  # type: ignore[valid-type]
    buckets: int = Field(8, ge=2, le=64)
    pace: float = Field(0.5, gt=0, le=1)
    descending: bool = False


def resolve(weights: Mapping[str, float], base: Mapping[str, float]) -> list[float]:
    """Return the share of every name in `base`; names without a weight divide what is left by their base weights.

    Where every name has a weight, they are taken in proportion.
    """
    for name, weight in weights.items():
        if name not in base:
            raise UsageError(
                f"weights name {name!r}, which is no source{suggest(name, base)} (known: {', '.join(base)})"
            )
        if not 0 <= weight < float("inf"):
            raise UsageError(f"the weight of {name!r} must be at least 0, not {weight}")
    given = sum(weights.values())
    others = sum(value for name, value in base.items() if name not in weights)
    if others == 0:
        if given <= 0:
            raise UsageError(f"the weights of a mixture must not all be 0: {dict(weights)}")
        return [weights.get(name, 0.0) / given for name in base]
    if given > 1:
        raise UsageError(
            f"the weights {dict(weights)} add up to {given:g}: with sources left out they are shares of 1, "
            "and the others divide the rest"
        )
    return [weights[name] if name in weights else (1 - given) * value / others for name, value in base.items()]


def changes(base: Mapping[str, float], first: Mapping[str, float], later: Sequence[Change]) -> list[Point]:
    """Return the weights at the points of the run where they change."""
    now = resolve(first, base)
    points: list[Point] = [(0.0, now)]
    for change in later:
        if change.start < points[-1][0]:
            raise UsageError(f"a change of weights at {change.start} begins before the one ahead of it has ended")
        points.append((change.start, now))
        now = resolve(change.weights, base)
        points.append((change.start + change.ramp, now))
    return points


def admissions(sizes: Sequence[float], pace: float) -> list[Point]:
    """Return the weights of buckets over the run, the easiest alone at first and in the end each by its size."""
    whole = sum(sizes)
    first = sizes[0] / whole
    points, reached = [], 0.0
    for bucket in range(len(sizes)):
        reached += sizes[bucket] / whole
        at = pace * (min(reached, 1.0) ** 2 - first**2) / (1 - first**2)
        points.append((at, [size if i <= bucket else 0.0 for i, size in enumerate(sizes)]))
    return points


def weights_at(points: Sequence[Point], at: float, *, after: bool) -> list[float]:
    """Return the weights at a point of the run; at a jump, those before it or those after."""
    for (a, u), (b, v) in pairwise(points):
        inside = (a <= at < b) if after else (a < at <= b)
        if inside:
            return [x + (y - x) * (at - a) / (b - a) for x, y in zip(u, v, strict=True)]
    if at > points[-1][0] or (after and at == points[-1][0]):
        return points[-1][1]
    return points[0][1]


def to_knots(points: Sequence[Point], rows: int | None) -> list[Knot]:
    """Return the schedule of a run of so many rows; while that is unknown, the first weights stay."""
    if rows is None:
        return [(0, weights_at(points, 0.0, after=True))]
    return [(round(at * rows), weights) for at, weights in points]
