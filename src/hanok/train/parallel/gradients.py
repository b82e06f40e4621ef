"""The ranks of a mesh as the loop sees them: whose gradients are summed with whose, norms, clipping, figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from hanok.text.batch import Batch
from hanok.train.parallel.mesh import TOKEN_AXES, coordinate
from hanok.train.parallel.pipeline import Pipeline
from hanok.train.parallel.shard import reduce_now
from hanok.train.ranks import Count, Forward

BUCKET = 1 << 24  # numbers in one all-reduce


@dataclass
class Sums:
    """Which gradients no wrapper has summed yet: names of parameters by the groups to sum them over, in order.

    `idle` are parameters that may see no token on one rank and some on another: their gradient is then zero.
    """

    groups: dict[str, list[Any]] = field(default_factory=dict)
    idle: set[str] = field(default_factory=set)

    @torch.no_grad()
    def apply(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Sum the gradients in place."""
        together: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        groups: dict[tuple[int, ...], list[Any]] = {}
        for name, parameter in parameters.items():
            if parameter.grad is None and name in self.idle:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is None or not self.groups.get(name):
                continue
            key = tuple(id(group) for group in self.groups[name])
            groups[key] = self.groups[name]
            together[key].append(here(parameter.grad))
        for key, grads in together.items():
            for bucket in _buckets(grads):
                flat = torch.cat([grad.reshape(-1) for grad in bucket])
                for group in groups[key]:
                    dist.all_reduce(flat, group=group)
                for grad, part in zip(bucket, flat.split([grad.numel() for grad in bucket]), strict=True):
                    grad.copy_(part.view_as(grad))


class MeshRanks:
    """`Ranks` on a mesh.

    `copies` says how many processes hold the same shard of a parameter, so that norms count each number once.
    """

    def __init__(
        self,
        mesh: DeviceMesh,
        model: nn.Module,
        sums: Sums,
        *,
        wrapper: Any = None,
        pipeline: Pipeline | None = None,
        copies: Mapping[str, int] | None = None,
    ) -> None:
        self.mesh, self.model, self.sums = mesh, model, sums
        self.wrapper, self.pipeline = wrapper, pipeline
        self.rank, self.size = coordinate(mesh, TOKEN_AXES)
        self._groups = [mesh.get_group(axis) for axis in TOKEN_AXES if mesh[axis].size() > 1]
        self._parameters = dict(model.named_parameters())
        self._copies = {id(self._parameters[name]): count for name, count in (copies or {}).items()}

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over the ranks that read different tokens."""
        return self._over(value, dist.ReduceOp.SUM)

    def maximum(self, value: Tensor) -> Tensor:
        """Return the largest value on any rank that reads different tokens."""
        return self._over(value, dist.ReduceOp.MAX)

    def backward(
        self, forward: Forward, count: Count, policy: Any, batch: Batch, share: Tensor, *, last: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the objective, through the pipeline if there is one; after the last micro-batch, sum gradients."""
        reduce_now(self.model, last)
        if self.wrapper is not None:
            self.wrapper.require_backward_grad_sync = last
        loss: Tensor
        if self.pipeline is None:
            loss, metrics = forward(policy, batch)
            (loss * share).backward()
        else:
            loss, metrics = self.pipeline.backward(forward, count, batch, share)
        if last:
            self.sums.apply(self._parameters)
        return loss.detach(), metrics

    @torch.no_grad()
    def norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return the norm of the whole gradient: each process adds its shards, divided by how many hold the same."""
        terms = [
            here(parameter.grad).double().square().sum() / self._copies[id(parameter)]
            for parameter in parameters
            if parameter.grad is not None
        ]
        total = torch.stack(terms).sum()
        dist.all_reduce(total)
        return total.sqrt().float()

    @torch.no_grad()
    def clip(self, parameters: Sequence[nn.Parameter], limit: float, norm: Tensor) -> None:
        """Scale this process's shards, by the factor that torch's clipping takes."""
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)
        for parameter in parameters:
            if parameter.grad is not None:
                here(parameter.grad).mul_(factor)

    def _over(self, value: Tensor, op: Any) -> Tensor:
        out = value.detach().clone()
        for group in self._groups:
            dist.all_reduce(out, op, group=group)
        return out


def here(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor, which shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shards(tensor: Tensor) -> int:
    """Return into how many different parts a tensor is divided."""
    if not isinstance(tensor, DTensor):
        return 1
    count = 1
    for axis, place in enumerate(tensor.placements):
        count *= tensor.device_mesh.size(axis) if not place.is_replicate() else 1
    return count


def _buckets(grads: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for grad in grads:
        if bucket and (size + grad.numel() > BUCKET or grad.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(grad)
        size += grad.numel()
    if bucket:
        yield bucket
