"""Process groups and the mesh of ranks over them: start, end, coordinates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from hanok.core.errors import UsageError
from hanok.train.parallel.config import AXES, BATCH_AXES, TOKEN_AXES, ParallelConfig, Place, place

__all__ = [
    "AXES",
    "BATCH_AXES",
    "TOKEN_AXES",
    "ParallelConfig",
    "Place",
    "coordinate",
    "gather_json",
    "make_mesh",
    "place",
    "process_group",
]


@contextmanager
def process_group(
    where: Place, *, device: str = "cpu", init_method: str = "env://", seconds: float = 1800.0
) -> Iterator[None]:
    """Join the process group for the time of the `with` block: gloo on CPUs; on GPUs NCCL, and gloo beside it."""
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    if device != "cpu":
        torch.cuda.set_device(where.local)
    timeout = timedelta(seconds=seconds)
    dist.init_process_group(backend, init_method, rank=where.rank, world_size=where.size, timeout=timeout)
    try:
        yield
    finally:
        dist.destroy_process_group()


def make_mesh(config: ParallelConfig, *, device: str = "cpu") -> DeviceMesh:
    """Return the mesh over all processes of the group, with every axis of `AXES`, also those of size 1."""
    size = dist.get_world_size() if dist.is_initialized() else 1
    if config.size != size:
        raise UsageError(
            f"parallel: the layout {config.describe()} needs {config.size} processes, but {size} were started "
            f"(-- --nproc-per-node={config.size})"
        )
    shape = tuple(getattr(config, axis) for axis in AXES)
    return init_device_mesh(device, shape, mesh_dim_names=AXES)


def coordinate(mesh: DeviceMesh, axes: tuple[str, ...]) -> tuple[int, int]:
    """Return this process's index along some axes taken together, the first the slowest, and how many there are."""
    index, size = 0, 1
    for axis in axes:
        here, length = mesh.get_local_rank(axis), mesh[axis].size()
        index, size = index * length + here, size * length
    return index, size


def gather_json(value: Any, group: Any = None) -> list[Any]:
    """Return the JSON-able value of every rank of a group (default: all), in their order."""
    text = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
    size = dist.get_world_size(group)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(size)]
    dist.all_gather(lengths, torch.tensor([text.numel()]), group=group)
    longest = int(torch.cat(lengths).max())
    padded = torch.nn.functional.pad(text, (0, longest - text.numel()))
    parts = [torch.empty(longest, dtype=torch.uint8) for _ in range(size)]
    dist.all_gather(parts, padded, group=group)
    return [json.loads(bytes(part[: int(length)].tolist())) for part, length in zip(parts, lengths, strict=True)]
