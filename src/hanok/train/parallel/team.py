"""A model divided over a mesh: which strategy touches what, what objectives call, and how it becomes whole again."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.text.data.stream import for_rank
from hanok.train.hook.validate import Measure
from hanok.train.loop import SHORT, LoopConfig
from hanok.train.parallel.context import ContextPolicy, stretch
from hanok.train.parallel.experts import split_experts
from hanok.train.parallel.gradients import MeshRanks, Sums, shards
from hanok.train.parallel.mesh import (
    AXES,
    BATCH_AXES,
    TOKEN_AXES,
    ParallelConfig,
    coordinate,
    gather_json,
    make_mesh,
)
from hanok.train.parallel.pipeline import Pipeline, first_and_last, keep_stage
from hanok.train.parallel.replicate import Replicas, replicable
from hanok.train.parallel.shard import shard_model
from hanok.train.parallel.tensor import split_tensor
from hanok.train.parallel.watchdog import watch
from hanok.train.state import Source, TrainState


@dataclass
class Team:
    """This process's part of a run: its share of the model, what objectives call (`policy`), and its `ranks`.

    `whole` is the model as it was given; `gather` brings the trained weights back into it, on every process.
    """

    mesh: DeviceMesh
    model: Model
    policy: Any
    ranks: MeshRanks
    whole: Model
    device: str = "cpu"
    patience: float = 0.0

    @property
    def first(self) -> bool:
        """Return whether this process speaks for all."""
        return self.mesh.get_rank() == 0

    def slice(self, source: Source) -> Source:
        """Return this process's part of a source."""
        return Slice(source, self.mesh)

    def watched(self, state: TrainState) -> AbstractContextManager[None]:
        """Watch over all processes inside the `with` block: one that is lost is named, and the job ends."""
        return watch(self.patience, lambda: state.step)

    def measuring(self, measure: Measure) -> Measure:
        """Return a measurement of the whole model with the weights as they are when it is made.

        Every process gathers and measures, so that none waits for another longer than it works itself.
        """

        def gathered(_: Any) -> Mapping[str, float]:
            whole = self.gather().to(self.device)
            try:
                return measure(whole)
            finally:
                whole.to("cpu")

        return gathered

    def gather(self) -> Model:
        """Copy the weights as they are now into the whole model, and return it; every process calls this."""
        found = whole_weights(self.model, self.mesh)
        with torch.no_grad():
            for name, tensor in self.whole.state_dict().items():
                if name in found:
                    tensor.copy_(found[name])
        return self.whole


def divide(whole: Model, config: ParallelConfig, loop: LoopConfig, *, device: str = "cpu") -> Team:
    """Divide a copy of a model, equal on all processes, by the layout of the configuration; the model stays on the CPU.

    Stages first, then widths and experts, then shards over what is left: each strategy sees a smaller plain model.
    """
    check(whole, config, loop)
    mesh = make_mesh(config, device=device)
    model = copy.deepcopy(whole.to("cpu"))  # a device holds only its part
    if config.pipeline > 1:
        keep_stage(model, mesh.get_local_rank("pipeline"), config.pipeline)
    experts = split_experts(model, mesh["expert"]) if config.expert > 1 else []
    partial_sums = split_tensor(model, mesh["tensor"], experts=config.expert == 1) if config.tensor > 1 else []
    if config.shard > 1:
        shard_model(model, mesh["data", "shard"] if config.data > 1 else mesh["shard"])
    model.to(device)
    policy: Any = model
    replicas = None
    if config.data == config.size and replicable(model):
        policy = replicas = Replicas(model, mesh.get_group("data"))
    elif config.context > 1:
        policy = ContextPolicy(model, mesh.get_group("context"))
    sums = _sums(model, config, mesh, experts, partial_sums, summed=replicas is not None)
    pipeline = None
    if config.pipeline > 1:
        cast_products = partial(
            torch.autocast, torch.device(device).type, torch.bfloat16, enabled=loop.compute in SHORT
        )
        pipeline = Pipeline(
            model, mesh, microbatches=config.microbatches, schedule=config.schedule, autocast=cast_products
        )
    ranks = MeshRanks(
        mesh,
        model,
        sums,
        wrapper=None if replicas is None else replicas.wrapper,
        pipeline=pipeline,
        copies=_copies(model, config),
    )
    return Team(mesh, model, policy, ranks, whole, device, config.watchdog)


def check(whole: Model, config: ParallelConfig, loop: LoopConfig) -> None:
    """Refuse layouts that no strategy here can serve."""
    if config.pipeline > 1 and (config.shard > 1 or config.context > 1):
        raise UsageError("parallel: pipeline goes with data, tensor and expert, not with shard or context")
    if loop.numerics == "exact" and (config.tensor > 1 or config.context > 1):
        raise UsageError("parallel: tensor and context divide products, which numerics 'exact' keeps whole; use 'fast'")
    if whole.shared is not None and (config.tensor > 1 or config.pipeline > 1):
        raise UsageError("parallel: parts that layers share go with data and shard, not with tensor or pipeline")
    if loop.compile != "none":
        raise UsageError("parallel: loop.compile makes one process's graph; leave it out")


class Slice:
    """A rank's part of a source, whose position is one and the same everywhere.

    Ranks of `BATCH_AXES` take rows, those of `context` columns. The position does not depend on how many ranks there
    are: a run may go on with more or fewer of them.
    """

    def __init__(self, source: Source, mesh: DeviceMesh) -> None:
        rank, size = coordinate(mesh, BATCH_AXES)
        rows = getattr(source, "batch", size)
        if rows % size:
            raise UsageError(f"batch: {rows} rows cannot be shared evenly by {size} ranks; make it a multiple")
        self.source = for_rank(source, rank, size)
        self.column, self.columns = coordinate(mesh, ("context",))

    def next_batch(self) -> Batch:
        """Return this rank's part of the next batch."""
        batch = self.source.next_batch()
        return batch if self.columns == 1 else stretch(batch, self.column, self.columns)

    def state(self) -> dict[str, Any]:
        """Return the position of the whole source."""
        return self.source.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position of the whole source."""
        self.source.restore(state)


@torch.no_grad()
def whole_weights(model: nn.Module, mesh: DeviceMesh) -> dict[str, Tensor]:
    """Return all parameters and persistent buffers whole, on every process, which all have to call this."""
    once = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    here = {name: _full(tensor) for name, tensor in model.state_dict().items() if name in once}
    if mesh["pipeline"].size() == 1:
        return here
    group = mesh.get_group("pipeline")
    device = next(iter(here.values())).device
    found: dict[str, Tensor] = {}
    for stage, held in enumerate(gather_json([[k, [*v.shape], str(v.dtype)] for k, v in here.items()], group)):
        source = dist.get_global_rank(group, stage)
        for name, shape, dtype in held:
            if name not in found:
                empty = torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")), device=device)
                found[name] = here[name].contiguous() if stage == group.rank() else empty
                dist.broadcast(found[name], source, group=group)
    return found


def _full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.detach()


def _sums(
    model: Model, config: ParallelConfig, mesh: DeviceMesh, experts: list[str], partial_sums: list[str], *, summed: bool
) -> Sums:
    """Return over which groups each gradient is still to be summed, once wrappers have done their part."""
    done = {"data"} if summed else {"data", "shard"} if config.shard > 1 else set()
    axes = [axis for axis in TOKEN_AXES if getattr(config, axis) > 1 and axis not in done]
    sums = Sums(idle=set(experts))
    tied = first_and_last(mesh) if config.pipeline > 1 and model.config.embeddings == "tied" else None
    for name, _ in model.named_parameters():
        mine = [axis for axis in axes if not (axis == "expert" and name in experts)]
        mine += ["tensor"] if name in partial_sums else []
        sums.groups[name] = [mesh.get_group(axis) for axis in mine]
        if tied is not None and name in ("embed.weight", "head.weight"):
            sums.groups[name].append(tied)
    return sums


def _copies(model: Model, config: ParallelConfig) -> dict[str, int]:
    """Return how many processes hold the same part of each parameter."""
    in_stage = prod(getattr(config, axis) for axis in AXES if axis != "pipeline")
    tied = config.pipeline > 1 and model.config.embeddings == "tied"
    return {
        name: in_stage // shards(parameter) * (2 if tied and name == "embed.weight" else 1)
        for name, parameter in model.named_parameters()
    }
