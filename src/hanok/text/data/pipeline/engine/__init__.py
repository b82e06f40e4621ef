"""Engines: where the units of a job are done; what comes out is the same with each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from hanok.core.registry import Registry
from hanok.text.data.pipeline.job import Job


class Engine(Protocol):
    """Does units of a job, in any order, on `workers` processes."""

    def __init__(self, workers: int) -> None: ...

    def run(self, job: Job, units: Sequence[int]) -> Iterator[int]:
        """Do all units and yield each when its result is on disk; the first error of a unit ends the run."""
        ...


ENGINES: Registry[type[Engine]] = Registry("data engine", __name__)
