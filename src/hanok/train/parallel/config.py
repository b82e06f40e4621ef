"""How a run is laid out over processes: the axes of the mesh, and this process's place as its launcher says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

from pydantic import Field

from hanok.core.config import Config

# From the outermost axis to the innermost: neighbours on the last axes talk most and should share a machine.
AXES = ("pipeline", "data", "shard", "expert", "context", "tensor")
BATCH_AXES = ("data", "shard", "expert")  # ranks that differ here read different rows
TOKEN_AXES = (*BATCH_AXES, "context")  # ranks that differ here read different tokens


class ParallelConfig(Config):
    """How many processes share the work along each axis of the mesh; their product is the number of processes.

    `data`: replicas (DDP). `shard`: parameters, gradients and optimiser states in shards (FSDP2; with `data` HSDP).
    `tensor`: heads and hidden widths of a layer. `pipeline`: consecutive layers, on micro-batches of rows
    (`microbatches`, by default as many as stages). `expert`: experts, tokens travel. `context`: stretches of each row.
    `watchdog`: seconds of silence after which a rank counts as lost and the job ends (0: never).

    A layout does not change what is computed, so that a run may go on under another one.
    """

    data: int = Field(1, ge=1)
    shard: int = Field(1, ge=1)
    tensor: int = Field(1, ge=1)
    pipeline: int = Field(1, ge=1)
    expert: int = Field(1, ge=1)
    context: int = Field(1, ge=1)
    microbatches: int = Field(0, ge=0)
    schedule: Literal["gpipe", "1f1b"] = "1f1b"
    watchdog: float = Field(15.0, ge=0)

    @property
    def size(self) -> int:
        """Return the number of processes."""
        return prod(getattr(self, axis) for axis in AXES)

    def describe(self) -> str:
        """Return the axes that are divided: `data 2 x tensor 2`."""
        return " x ".join(f"{axis} {getattr(self, axis)}" for axis in AXES if getattr(self, axis) > 1) or "one process"


@dataclass(frozen=True)
class Place:
    """Where this process stands among all, as its launcher says."""

    rank: int = 0
    size: int = 1
    local: int = 0


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """Return this process's place: RANK, WORLD_SIZE and LOCAL_RANK of torchrun, or alone."""
    try:
        return Place(*(int(environment.get(name, "")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    except ValueError:
        return Place()
