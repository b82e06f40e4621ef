"""Each strategy against one process: the same model, data and steps, and how far the losses are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from hanok.core.errors import UsageError, suggest
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.nn.ffn.moe import MoE
from hanok.nn.mixer.gqa import GQA
from hanok.text.batch import Batch
from hanok.train.hook import Hook, Record
from hanok.train.loop import LoopConfig, train
from hanok.train.objective.clm import NextToken
from hanok.train.optim import OPTIMIZERS
from hanok.train.parallel.local import on_ranks
from hanok.train.parallel.mesh import ParallelConfig
from hanok.train.parallel.team import Slice, divide
from hanok.train.schedule.constant import Constant
from hanok.train.state import TrainState

STRATEGIES = ("ddp", "fsdp", "hsdp", "tp", "pp", "ep", "cp", "fsdp+tp", "ddp+pp")
TOLERANCE, NORM_TOLERANCE = 1e-5, 1e-4  # of losses, absolute; of gradient norms, relative


@dataclass(frozen=True)
class Trial:
    """What every strategy has to reproduce: `steps` steps on random rows of `length`, `rows` of them in a step."""

    config: ModelConfig
    steps: int = 20
    rows: int = 8
    length: int = 32
    optimizer: str = "adamw"
    lr: float = 1e-3
    clip: float = 1.0
    logits: Literal["auto", "whole", "pieces"] = "auto"


@dataclass(frozen=True)
class Outcome:
    """One line of the table; `error` says why a strategy cannot serve this model."""

    strategy: str
    layout: str = ""
    worst: float = math.nan
    norm: float = math.nan
    error: str = ""

    @property
    def agrees(self) -> bool:
        """Return whether losses and gradient norms of all steps are within the tolerances.

        Losses alone would not do: after clipping, and under Adam, a gradient that is n times too large changes nothing.
        """
        return not self.error and self.worst <= TOLERANCE and self.norm <= NORM_TOLERANCE

    def facts(self) -> dict[str, Any]:
        """Return the line as JSON-able data."""
        if self.error:
            return {"error": self.error}
        return {"layout": self.layout, "loss_gap": self.worst, "norm_gap": self.norm, "agrees": self.agrees}

    def row(self) -> tuple[str, ...]:
        """Return the line as people read it."""
        if self.error:
            return self.strategy, "-", "-", "-", self.error
        verdict = "agrees" if self.agrees else "DIFFERS"
        return self.strategy, self.layout, f"{self.worst:.1e}", f"{self.norm:.1e}", verdict


class RandomRows:
    """Random tokens with random weights, the same for the same step wherever they are drawn."""

    def __init__(self, trial: Trial, micro: int) -> None:
        self.trial, self.micro, self.step = trial, micro, 0

    def next_batch(self) -> Batch:
        """Return one of the `micro` equal parts of a step's rows."""
        trial, (step, part) = self.trial, divmod(self.step, self.micro)
        self.step += 1
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(0, trial.config.vocab, (trial.rows, trial.length + 1), generator=generator)
        weights = torch.rand(trial.rows, trial.length, generator=generator)
        weights = weights * (torch.rand(weights.shape, generator=generator) > 0.2)
        here = slice(part * trial.rows // self.micro, (part + 1) * trial.rows // self.micro)
        at = torch.arange(trial.length).expand(trial.rows, -1).contiguous()
        return Batch(rows[here, :-1].contiguous(), rows[here, 1:].contiguous(), weights[here], at[here])

    def state(self) -> dict[str, Any]:
        """Return the position."""
        return {"step": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position."""
        self.step = state["step"]


def layout_of(strategy: str, config: ModelConfig, size: int) -> ParallelConfig:
    """Return the layout that a strategy's name means for a model on so many processes.

    Where a model cannot be divided `size` times (heads, experts, layers), replicas take up the rest.
    """
    if strategy not in STRATEGIES:
        raise UsageError(
            f"unknown strategy {strategy!r}{suggest(strategy, STRATEGIES)} (known: {', '.join(STRATEGIES)})"
        )
    model = Model(config, device="meta")
    heads = [math.gcd(m.heads, m.kv_heads) for m in model.modules() if isinstance(m, GQA)]
    experts = [m.number for m in model.modules() if isinstance(m, MoE)]
    tensor = math.gcd(size, *heads) if heads else size
    half = max(1, size // 2)
    layouts = {
        "ddp": {"data": size},
        "fsdp": {"shard": size},
        "hsdp": {"data": size // half, "shard": half},
        "tp": {"tensor": tensor, "data": size // tensor},
        "pp": {"pipeline": min(size, config.depth), "data": size // min(size, config.depth)},
        "ep": {"expert": math.gcd(size, *experts), "data": size // math.gcd(size, *experts)},
        "cp": {"context": size},
        "fsdp+tp": {"shard": size // math.gcd(half, tensor), "tensor": math.gcd(half, tensor)},
        "ddp+pp": {"data": size // half, "pipeline": half},
    }
    if strategy == "ep" and not experts:
        raise UsageError("no mixture of experts to divide")
    return ParallelConfig.parse(layouts[strategy])


def losses(trial: Trial, layout: ParallelConfig, micro: int = 1) -> dict[str, list[float]]:
    """Take the steps in this process (one of those of the layout) and return losses and gradient norms.

    `micro` parts each step's rows into that many accumulated batches: a router's balance loss is that of a batch.
    """
    torch.manual_seed(0)
    model: Any = Model(trial.config, seed=1)
    objective = NextToken(NextToken.Config(logits=trial.logits))
    loop = LoopConfig(clip=trial.clip, accumulate=micro if layout.size == 1 else 1)
    source: Any = RandomRows(trial, loop.accumulate)
    more: dict[str, Any] = {}
    if layout.size > 1:
        team = divide(model, layout, loop)
        model, source = team.model, Slice(source, team.mesh)
        more = {"ranks": team.ranks, "forward": team.policy}
    part = OPTIMIZERS[trial.optimizer]
    optimizer = part(part.Config(lr=trial.lr), model)
    state = TrainState(model, optimizer, source, trial.steps, **more)
    seen = Seen()
    train(state, objective, Constant(Constant.Config()), loop, [seen])
    return {"loss": seen.losses, "norm": seen.norms}


class Seen(Hook):
    """Keeps the figures of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []

    def after_step(self, state: TrainState, record: Record) -> None:
        """Note this step's."""
        self.losses.append(record["loss"])
        self.norms.append(record["grad_norm"])


def compare(trial: Trial, strategies: Sequence[str], size: int) -> list[Outcome]:
    """Return how each strategy's losses on `size` processes differ from one process's."""
    known: dict[tuple[int, bool], dict[str, list[float]]] = {}
    found = []
    for strategy in strategies:
        try:
            layout = layout_of(strategy, trial.config, size)
            micro, balanced = _batches(layout), layout.context == 1
            task = trial if balanced else replace(trial, config=unbalanced(trial.config))
            if (micro, balanced) not in known:
                known[micro, balanced] = on_ranks(partial(losses, task, ParallelConfig(), micro), 1)[0]
            ours = on_ranks(partial(losses, task, layout), layout.size)[0]
        except UsageError as error:
            found.append(Outcome(strategy, error=str(error)))
            continue
        one = known[micro, balanced]
        said = layout.describe() + ("" if task.config == trial.config else ", without balance losses")
        gaps = _worst(one["loss"], ours["loss"]), _worst(one["norm"], ours["norm"], relative=True)
        found.append(Outcome(strategy, said, *gaps))
    return found


def unbalanced(config: ModelConfig) -> ModelConfig:
    """Return a model whose routers have no balance loss, which one process cannot take over stretches of rows."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: 0.0 if key == "balance" else strip(inner) for key, inner in value.items()}
        return [strip(inner) for inner in value] if isinstance(value, list) else value

    return ModelConfig.parse(strip(config.to_dict()))


def _batches(layout: ParallelConfig) -> int:
    """Return in how many batches a layout computes the rows of a step."""
    micro = (layout.microbatches or layout.pipeline) if layout.pipeline > 1 else 1
    return layout.data * layout.shard * layout.expert * micro


def _worst(one: Sequence[float], ours: Sequence[float], *, relative: bool = False) -> float:
    """Return the largest gap of any step."""
    known = torch.tensor(one, dtype=torch.float64)
    gap: Tensor = (known - torch.tensor(ours, dtype=torch.float64)).abs()
    return float((gap / known if relative else gap).max())
