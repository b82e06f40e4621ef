"""Fully sharded data parallelism: parameters, gradients and optimiser states in shards, gathered layer by layer."""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from hanok.model.block import Block


def shard_model(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a model over a mesh of one axis, or of two, of which the first holds replicas (HSDP), in place.

    Each block is one unit, and what is left (embedding, norms, head) another. Gradients are summed, never averaged,
    because the loop weighs each rank's loss by its share.

    Zhao et al. 2023, arXiv 2304.11277; `fully_shard` of torch.
    """
    for module in [*(module for module in model.modules() if isinstance(module, Block)), model]:
        fully_shard(module, mesh=mesh)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)
    for method in ("hidden", "logits"):
        register_fsdp_forward_method(model, method)


def reduce_now(model: nn.Module, now: bool) -> None:
    """Say whether the next backward reduces gradients (the last of a step) or only adds them up."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)
