"""What processes tell each other when they save and load: JSON as bytes in tensors, never a pickle.

`torch.distributed`'s own object collectives unpickle what arrives.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def place() -> tuple[int, int]:
    """Return this process's rank and the number of processes; (0, 1) where none but this one takes part."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def exchange(value: Any) -> list[Any]:
    """Return what every rank has passed, in their order; each rank calls this at the same moment."""
    _, size = place()
    if size == 1:
        return [value]
    device = _device()
    raw = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device)
    lengths = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(size)]
    dist.all_gather(lengths, torch.tensor([raw.numel()], device=device))
    longest = max(int(length) for length in lengths)
    padded = torch.zeros(longest, dtype=torch.uint8, device=device)
    padded[: raw.numel()] = raw
    received = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(received, padded)
    return [_value(row[: int(length)]) for row, length in zip(received, lengths, strict=True)]


def agree(error: BaseException | None, kind: type[Exception] = OSError) -> None:
    """Raise on every rank if one of them has failed, naming it; the rank that failed raises its own error."""
    _, size = place()
    if size > 1:
        told = exchange(None if error is None else f"{type(error).__name__}: {error}")
        failed = [f"rank {rank}: {text}" for rank, text in enumerate(told) if text is not None]
        if failed and error is None:
            raise kind("; ".join(failed))
    if error is not None:
        raise error


def any_rank(here: bool) -> bool:
    """Return whether it is so on any rank; each rank calls this at the same moment."""
    if place()[1] == 1:
        return here
    found = torch.tensor([int(here)], device=_device())
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found.item())


def _device() -> torch.device:
    """Return where a tensor must lie for the process group to carry it."""
    return torch.device("cpu" if "gloo" in dist.get_backend_config() else "cuda")


def _value(row: Tensor) -> Any:
    return json.loads(bytes(row.cpu().numpy()).decode())
