"""Experts over ranks: each rank holds some of the experts (their tokens travel), or a part of every one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from hanok.core.errors import UsageError
from hanok.nn.experts import ExpertLinear, Product
from hanok.nn.ffn.base import Dense
from hanok.nn.ffn.moe import MoE
from hanok.ops.matmul import linear
from hanok.train.parallel.exchange import enter, exchange, leave


def split_experts(model: nn.Module, mesh: DeviceMesh) -> list[str]:
    """Give each rank of a mesh of one axis an equal stretch of every layer's experts; return their parameters' names.

    Lepikhin et al. 2020 (GShard), arXiv 2006.16668: rows go to the ranks of their experts and come back.
    """
    names = []
    for name, moe in model.named_modules():
        if not isinstance(moe, MoE):
            continue
        if moe.number % mesh.size():
            raise UsageError(
                f"parallel.expert: {name} has {moe.number} experts, which {mesh.size()} ranks cannot share evenly"
            )
        for key, parameter in list(moe.experts.named_parameters()):
            place, _, last = key.rpartition(".")
            shard = distribute_tensor(parameter.detach(), mesh, [Shard(0)], src_data_rank=None)
            owner = moe.experts.get_submodule(place)
            owner.register_parameter(last, nn.Parameter(shard, requires_grad=parameter.requires_grad))
            names.append(f"{name}.experts.{key}")
        narrow(moe.experts, mesh.get_group(), by="expert")
    if not names:
        raise UsageError("parallel.expert: this model has no mixture of experts")
    return names


def narrow(network: Dense, group: Any, *, by: Literal["expert", "hidden"]) -> None:
    """Let a network of stacked experts compute with the shards that this rank holds, in place.

    As `fully_shard` does, the object gets a class of its own, so that no name in the model changes.
    """
    kind = _Travelling if by == "expert" else _Partial
    network.__class__ = type(f"{kind.__name__}{type(network).__name__}", (kind, type(network)), {})
    for part in network.products:
        module = network.get_submodule(part)
        module.__class__ = type(f"Local{type(module).__name__}", (_Local, type(module)), {})
    network.__dict__["group"] = group


class _Local(ExpertLinear):
    """Stacked weights of which this rank has a shard."""

    def apart(self, experts: Sequence[int]) -> list[Product]:
        weights = local(self.weight).unbind(0)
        biases = [None] * len(weights) if self.bias is None else local(self.bias).unbind(0)
        return [partial(linear, weight=weights[expert], bias=biases[expert]) for expert in experts]


class _Partial(Dense):
    """Every expert, a part of its hidden width each."""

    group: Any

    def of_experts(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        return leave(super().of_experts(enter(x, self.group), counts), self.group)


class _Travelling(Dense):
    """Some of the experts, all of each."""

    group: Any

    def of_experts(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        ranks = self.group.size()
        mine = torch.tensor(counts, device=x.device).view(ranks, -1)
        theirs = torch.empty_like(mine)  # (source rank, local expert)
        dist.all_to_all_single(theirs, mine, group=self.group)
        sent, received = cast(list[int], mine.sum(1).tolist()), cast(list[int], theirs.sum(1).tolist())
        arrived = exchange(x, sent, received, self.group)
        by_expert = _order(theirs)
        y = super().of_experts(arrived.index_select(0, by_expert), theirs.sum(0).tolist())
        return exchange(y.index_select(0, by_expert.argsort()), received, sent, self.group)


def _order(counts: Tensor) -> Tensor:
    """Return the order that sorts rows by local expert which lie source after source, expert after expert in each."""
    ranks, experts = counts.shape
    labels = torch.arange(experts, device=counts.device).repeat(ranks).repeat_interleave(counts.flatten())
    return labels.argsort(stable=True)


def local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a tensor, through which gradients flow."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
