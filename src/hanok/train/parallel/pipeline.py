"""Pipeline parallelism: consecutive layers on different ranks, through which micro-batches of rows travel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.nn.context import Dense
from hanok.nn.router.tally import tallying
from hanok.ops.linear_cross_entropy import Projection
from hanok.text.batch import Batch
from hanok.train.parallel.mesh import gather_json
from hanok.train.ranks import Count, Forward

SCHEDULES = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}
Metrics = dict[str, Tensor]


def layers_of(depth: int, stage: int, stages: int) -> range:
    """Return the layers of a stage; the first ones get those that do not divide evenly."""
    each, more = divmod(depth, stages)
    first = stage * each + min(stage, more)
    return range(first, first + each + (stage < more))


def keep_stage(model: Model, stage: int, stages: int) -> None:
    """Leave in a model only what one stage needs, in place; names stay as they are."""
    depth = len(model.blocks)
    if stages > depth:
        raise UsageError(f"parallel.pipeline: {depth} layers make at most {depth} stages, not {stages}")
    if model.encoder is not None or model.mtp is not None or model.head is None:
        raise UsageError("parallel.pipeline divides decoders with a head: not encoders, nor models with mtp")
    _check_shared(model, stages)
    mine = layers_of(depth, stage, stages)
    for layer in range(depth):
        if layer not in mine:
            model.blocks[layer] = nn.Identity()
    tied = model.config.embeddings == "tied"
    if stage > 0 and not (tied and stage == stages - 1):
        del model.embed
    if stage < stages - 1:
        model.norm = model.head = model.transform = None
    model.pooler = None


class Stage(nn.Module):
    """The layers of one rank as torch's schedules call them: `rows` say which rows of the batch come."""

    def __init__(self, model: Model, stage: int, stages: int) -> None:
        super().__init__()
        self.model, self.first, self.last = model, stage == 0, stage == stages - 1
        self.mine = layers_of(len(model.blocks), stage, stages)
        self.batch: Batch
        self.weigh: Callable[[Tensor], Tensor]
        self.tallied: list[tuple[Tensor, Tensor | None, Metrics]] = []

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        part = rows_of(self.batch, rows)
        ctx = Dense(part.tokens, part.positions, part.segments)
        with tallying() as tally:
            if self.first:
                x = self.model.embed(x, ctx.positions)
            for layer in self.mine:
                x = self.model.blocks[layer](x, ctx)
            if self.last and self.model.norm is not None:
                x = self.model.norm(x)
        extra, share = tally.loss(), self.weigh(rows)
        if tally.entries or tally.notes or extra is not None:
            self.tallied.append((share, None if extra is None else extra.detach(), tally.metrics()))
        if extra is None:
            return x
        with_extra: Tensor = _WithLoss.apply(x, extra, share)
        return with_extra


class _WithLoss(torch.autograd.Function):
    """Hand x on, and add `share` times another loss to what is minimised (a stage knows only its own routers)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Tensor, share: Tensor) -> Tensor:
        ctx.save_for_backward(loss, share)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        loss, share = ctx.saved_tensors
        return grads[0], share.to(loss.dtype).expand_as(loss), None


class _Given:
    """A policy whose hidden states have come through the pipeline."""

    def __init__(self, model: Model, hidden: Tensor) -> None:
        self._model, self._hidden = model, hidden

    def hidden(self, tokens: Tensor, ctx: Any = None) -> Tensor:
        if tokens.shape != self._hidden.shape[:2]:
            raise UsageError("parallel.pipeline: this objective asks for other tokens than the batch holds")
        return self._hidden

    def logits(self, hidden: Tensor) -> Tensor:
        return self._model.logits(hidden)

    def before_head(self, hidden: Tensor) -> tuple[Tensor, Projection] | None:
        return self._model.before_head(hidden)


class Pipeline:
    """Runs the schedule for a batch; gradients of all stages together are those of share * loss."""

    def __init__(
        self, model: Model, mesh: DeviceMesh, *, microbatches: int, schedule: str, autocast: Callable[[], Any]
    ) -> None:
        self.group, self.stages = mesh.get_group("pipeline"), mesh["pipeline"].size()
        self.index = mesh.get_local_rank("pipeline")
        self.stage = Stage(model, self.index, self.stages)
        self.microbatches, self.schedule = microbatches or self.stages, SCHEDULES[schedule]
        self.autocast: Callable[[], AbstractContextManager[None]] = autocast
        self._made: dict[tuple[int, ...], Any] = {}
        self._loss: Callable[[Tensor, Tensor], Tensor]

    def backward(self, forward: Forward, count: Count, batch: Batch, share: Tensor) -> tuple[Tensor, Metrics]:
        """Return the loss and the metrics of the batch, on every stage, after its backward."""
        rows = torch.arange(batch.tokens.shape[0], device=batch.tokens.device)
        if len(rows) % self.microbatches:
            raise UsageError(
                f"parallel.pipeline: {len(rows)} rows cannot be parted into {self.microbatches} equal micro-batches; "
                "change batch or parallel.microbatches"
            )
        total = count(batch)
        shares: list[Tensor] = []
        found: list[tuple[Tensor, Metrics]] = []

        def weigh(rows: Tensor) -> Tensor:
            return share * count(rows_of(batch, rows)) / total

        def loss_of(hidden: Tensor, rows: Tensor) -> Tensor:
            loss, metrics = forward(_Given(self.stage.model, hidden), rows_of(batch, rows))
            shares.append(weigh(rows) / share)
            found.append((loss.detach(), metrics))
            return loss * weigh(rows)

        self._loss, self.stage.batch, self.stage.weigh, self.stage.tallied = loss_of, batch, weigh, []
        schedule = self._schedule(tuple(batch.tokens.shape))
        with self.autocast():
            if self.index == 0:
                schedule.step(batch.tokens, rows=rows, return_outputs=False)
            elif self.index == self.stages - 1:
                schedule.step(rows=rows, target=rows, losses=[], return_outputs=False)
            else:
                schedule.step(rows=rows, return_outputs=False)
        pairs = [(s, {"loss": loss, **metrics}) for s, (loss, metrics) in zip(shares, found, strict=True)]
        return self._told(pairs, share, batch.tokens.device)

    def _schedule(self, shape: tuple[int, ...]) -> Any:
        """Return torch's schedule for batches of this shape."""
        if shape not in self._made:
            model = self.stage.model
            weight = next(p for p in model.parameters())
            rows = shape[0] // self.microbatches
            state = torch.empty(rows, shape[1], model.config.dim, dtype=weight.dtype, device="meta", requires_grad=True)
            tokens = torch.empty(rows, shape[1], dtype=torch.int64, device="meta")
            stage = PipelineStage(
                self.stage,
                self.index,
                self.stages,
                weight.device,
                input_args=tokens if self.index == 0 else state,
                output_args=state,
                group=self.group,
            )
            self._made[shape] = self.schedule(stage, self.microbatches, loss_fn=self._loss_of, scale_grads=False)
        return self._made[shape]

    def _loss_of(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Return the loss of the batch at hand: schedules outlive batches."""
        return self._loss(hidden, rows)

    def _told(self, pairs: list[tuple[Tensor, Metrics]], share: Tensor, device: torch.device) -> tuple[Tensor, Metrics]:
        """Return the figures that the last stage found and that every stage's routers added, on every stage."""
        routed = [(s / share, metrics) for s, _, metrics in self.stage.tallied]
        extra = [float(s / share * loss) for s, loss, _ in self.stage.tallied if loss is not None]
        here = {"last": _mixed(pairs), "routed": _mixed(routed), "extra": sum(extra), "has": bool(extra)}
        everyone = gather_json(here, self.group)
        figures: dict[str, float] = dict(everyone[-1]["last"])
        told = [one["routed"] for one in everyone if one["routed"]]
        for name in {name for one in told for name in one}:
            values = [one[name] for one in told if name in one]
            pick = {"max": max, "min": min}.get(name[-3:])
            figures[name] = pick(values) if pick else sum(values) / len(values)
        if any(one["has"] for one in everyone):
            figures["cross_entropy"] = figures["loss"]
            figures["loss"] += sum(one["extra"] for one in everyone)
        out = {name: torch.tensor(value, device=device) for name, value in sorted(figures.items())}
        return out.pop("loss"), out


def rows_of(batch: Batch, rows: Tensor) -> Batch:
    """Return some rows of a batch."""
    moved = {
        item.name: value.index_select(0, rows)
        for item in fields(batch)
        if isinstance(value := getattr(batch, item.name), Tensor)
    }
    return replace(batch, **moved, columns={name: value.index_select(0, rows) for name, value in batch.columns.items()})


def first_and_last(mesh: DeviceMesh) -> Any:
    """Return the group of the first and the last stage that this rank belongs to (None on the others)."""
    mine = None
    for column in mesh.mesh.movedim(0, -1).reshape(-1, mesh["pipeline"].size()).tolist():
        pair = [column[0], column[-1]]
        group = dist.new_group(pair)  # every rank has to call this for every group
        mine = group if dist.get_rank() in pair else mine
    return mine


def _mixed(pairs: list[tuple[Tensor, Metrics]]) -> dict[str, float]:
    """Return means weighted by shares; names that end in max or min are that instead."""
    out: dict[str, float] = {}
    for name in pairs[0][1] if pairs else ():
        values = [float(metrics[name]) for _, metrics in pairs]
        pick = {"max": max, "min": min}.get(name[-3:])
        shares = (float(share) for share, _ in pairs)
        out[name] = pick(values) if pick else sum(s * v for s, v in zip(shares, values, strict=True))
    return out


def _check_shared(model: Model, stages: int) -> None:
    """Refuse parameters that layers of two stages share: each would see a part of their gradient."""
    owners: dict[int, set[int]] = {}
    for stage in range(stages):
        for layer in layers_of(len(model.blocks), stage, stages):
            for parameter in model.blocks[layer].parameters():
                owners.setdefault(id(parameter), set()).add(stage)
    if any(len(found) > 1 for found in owners.values()):
        raise UsageError("parallel.pipeline: layers of this model share parameters, which two stages cannot hold")
