"""Tensors as boxes: the part of each that this process holds, who of several holders writes it, and how boxes overlap.

A piece is an axis-aligned box of the whole tensor: all of it for a plain tensor, a shard for a `DTensor`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from hanok.train.checkpoint.ranks import exchange, place

Box = tuple[tuple[int, int], ...]  # (start, stop) along every axis


@dataclass(frozen=True)
class Piece:
    """What this process holds of a tensor: its box, the shape of the whole, and the values (sharing their memory)."""

    name: str
    shape: tuple[int, ...]
    box: Box
    values: Tensor


def piece_of(name: str, tensor: Tensor) -> Piece:
    """Return the piece of a tensor that lies in this process."""
    tensor = tensor.detach()
    shape = tuple(tensor.shape)
    if not is_sharded(tensor):
        return Piece(name, shape, tuple((0, length) for length in shape), tensor)
    from torch.distributed.tensor import DTensor

    assert isinstance(tensor, DTensor)
    (chunk,) = tensor.__create_chunk_list__()
    box = tuple((start, start + length) for start, length in zip(chunk.offsets, chunk.sizes, strict=True))
    return Piece(name, shape, box, tensor.to_local())


def is_sharded(tensor: Tensor) -> bool:
    """Return whether a tensor is a `DTensor`, of which this process may hold a part only."""
    if not (dist.is_available() and dist.is_initialized()):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def empty_like(like: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor laid out over the processes like another one, with a type of its own, not yet filled."""
    if not is_sharded(like):
        return torch.empty(like.shape, dtype=dtype)
    from torch.distributed.tensor import DTensor

    assert isinstance(like, DTensor)
    local = torch.empty_like(like.to_local(), dtype=dtype)
    return DTensor.from_local(
        local, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def owned(tensors: Mapping[str, Tensor]) -> list[Piece]:
    """Return the pieces that this process writes: each box once, given to the holder that has the least to write.

    Every rank calls this at the same moment, and all come to the same division.
    """
    pieces = [piece_of(name, tensor) for name, tensor in tensors.items()]
    pieces = [piece for piece in pieces if piece.values.numel() or not math.prod(piece.shape)]
    rank, size = place()
    if size == 1:
        return pieces
    offers = exchange([[piece.name, piece.box, piece.values.nbytes] for piece in pieces])
    holders: dict[tuple[str, str], list[int]] = {}
    weight: dict[tuple[str, str], int] = {}
    for holder, offer in enumerate(offers):
        for name, box, nbytes in offer:
            holders.setdefault((name, str(box)), []).append(holder)
            weight[name, str(box)] = nbytes
    loads = [0] * size
    mine = set()
    for key in sorted(holders, key=lambda key: (len(holders[key]), -weight[key], key)):
        writer = min(holders[key], key=lambda holder: (loads[holder], holder))
        loads[writer] += weight[key]
        if writer == rank:
            mine.add(key)
    return [piece for piece in pieces if (piece.name, str([list(side) for side in piece.box])) in mine]


def overlap(one: Box, other: Box) -> Box | None:
    """Return the box that two boxes share, or None."""
    shared = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))
    return None if any(start >= stop for start, stop in shared) else shared


def within(box: Box, outer: Box) -> tuple[slice, ...]:
    """Return a box as slices of a tensor that holds only `outer`."""
    return tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(box, outer, strict=True))


def volume(box: Box) -> int:
    """Return the number of elements in a box."""
    return math.prod(stop - start for start, stop in box)


def names_of(tensors: Iterable[str]) -> set[str]:
    """Return all names that any rank has passed."""
    return {name for names in exchange(sorted(tensors)) for name in names}
