"""The one training loop: batches in, an objective, accumulated gradients, an optimiser step, hooks."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from hanok.core.config import Config
from hanok.core.errors import HanokError, Interrupted, UsageError
from hanok.ops.numerics import numerics
from hanok.text.batch import Batch
from hanok.train.checkpoint.ranks import any_rank
from hanok.train.float8 import Float8Config, float8_layers
from hanok.train.hook import Hook, Record
from hanok.train.objective.policy import Objective
from hanok.train.recompute import recomputing
from hanok.train.schedule.warmup import Schedule
from hanok.train.signals import StopSignals
from hanok.train.state import TrainState

WARMUP_STEPS = 3  # steps of a process that its speed figure leaves out: caches fill, memory pools grow
SHORT = ("bfloat16", "float8")  # formats of products that autocast makes
RECENT = 64  # gradient norms that a spike is measured against


class LoopConfig(Config):
    """How steps are taken.

    `accumulate` micro-batches make one step, equal to the step on one big batch. A step whose loss or gradient is not
    finite (or whose norm is `spike` times the recent median) is skipped: the data moves on, the parameters do not;
    `patience` of them in a row end the run. `compute`: "float32" multiplies as the weights are stored, "bfloat16"
    casts products under autocast, "mixed" keeps float32 tensors and lets the device shorten what it multiplies.
    "float8" does as "bfloat16", and multiplies by weights in 8 bits (`float8` says how). Every `recompute`-th block
    keeps nothing for its gradient and is computed twice (activation checkpointing; 1: all, 0: none).
    `compile` "model" runs the forward as compiled code, which takes half a minute to make and then saves time.
    """

    accumulate: int = Field(1, ge=1)
    clip: float | None = Field(1.0, gt=0)
    spike: float | None = Field(None, gt=1)
    patience: int = Field(3, ge=1)
    numerics: Literal["fast", "exact"] = "fast"
    compute: Literal["float32", "mixed", "bfloat16", "float8"] = "float32"
    float8: Float8Config = Float8Config()
    recompute: int = Field(0, ge=0)
    compile: Literal["none", "model"] = "none"


def train(
    state: TrainState,
    objective: Objective,
    schedule: Schedule,
    config: LoopConfig,
    hooks: Sequence[Hook] = (),
) -> Record:
    """Take the steps that are left, and return the figures of the last one.

    On Ctrl-C or SIGTERM the step is finished, the hooks save, and `Interrupted` is raised.
    """
    record: Record = {}
    speed = Speed()
    with StopSignals() as signals, computing(config, state):
        for hook in hooks:
            hook.start(state)
        while state.step < state.steps and not any_rank(signals.received is not None):
            started = time.perf_counter()
            factor = schedule(state.step - state.skipped, state.steps)  # of a step that was refused nothing is left
            record = update(state, objective, config, factor, hooks)
            elapsed = time.perf_counter() - started
            state.step += 1
            state.seconds += elapsed
            record |= {
                "learning_rate": state.optimizer.lr * factor,
                "lr_factor": factor,
                "step_time": elapsed,
                "tokens_per_second": speed.add(int(record["num_tokens"]), elapsed),
                "num_tokens": state.num_tokens,
                "seconds": round(state.seconds, 3),
            }
            for hook in hooks:
                hook.after_step(state, record)
        if state.step >= state.steps:
            for hook in hooks:
                hook.finish(state)
        for hook in hooks:
            hook.stop(state)
    if signals.received is not None or state.step < state.steps:
        why = signals.received or "a signal to another rank"
        raise Interrupted(f"stopped by {why} after step {state.step} of {state.steps}; it can be resumed")
    return record


def update(
    state: TrainState, objective: Objective, config: LoopConfig, factor: float, hooks: Sequence[Hook] = ()
) -> Record:
    """Take one step over `accumulate` micro-batches, or skip it (`hooks` are told), and return its figures."""
    device = state.optimizer.parameters[0].device
    batches = [state.source.next_batch().to(device) for _ in range(config.accumulate)]
    figures = accumulate(state, objective, batches, config)
    figures["grad_norm"] = state.ranks.norm(state.optimizer.parameters)
    # The only wait for the device in a step.
    values = torch.stack([value.to(torch.float64) for value in figures.values()]).tolist()
    record: Record = dict(zip(figures, values, strict=True))
    tokens = sum(batch.tokens.numel() for batch in batches) * state.ranks.size
    state.num_tokens += tokens
    if refused := _refuse(state, record, config):
        for hook in hooks:
            hook.skipped(state, batches, record)
        _skip(state, refused, config)
    else:
        norm = record["grad_norm"]
        if (probe := state.optimizer.probe(state.ranks.rank)) is not None:
            _observe(state, probe, batches, config)
        if config.clip is not None and norm > config.clip:
            state.ranks.clip(state.optimizer.parameters, config.clip, figures["grad_norm"])
        state.optimizer.step(factor)
        state.skipped_in_row = 0
        state.norms = [*state.norms[1 - RECENT :], norm] if config.spike is not None else []
    for parameter in state.optimizer.parameters:
        parameter.grad = None
    return {**record, "num_tokens": tokens, "skipped": state.skipped}


def accumulate(
    state: TrainState, objective: Objective, batches: Sequence[Batch], config: LoopConfig
) -> dict[str, Tensor]:
    """Add up the gradient of the mean over all micro-batches of all ranks; return the figures of the whole as tensors.

    Figures are means weighted like the loss; names that end in max or min are that instead.
    """

    def forward(policy: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        # Entered anew for each forward: autocast keeps the weights that it has cast until it ends.
        with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=config.compute in SHORT):
            return objective(policy, batch)

    counts = torch.stack([objective.count(batch) for batch in batches])
    shares = counts / state.ranks.sum(counts.sum())  # not a number, and so refused, where no token carries weight
    figures: dict[str, Tensor] = {}
    for number, (batch, share) in enumerate(zip(batches, shares, strict=True), 1):
        last = number == len(batches)
        loss, metrics = state.ranks.backward(forward, objective.count, state.policy, batch, share, last=last)
        for name, value in {"loss": loss, **metrics}.items():
            if name.endswith("max"):
                figures[name] = torch.maximum(figures.get(name, value), value)
            elif name.endswith("min"):
                figures[name] = torch.minimum(figures.get(name, value), value)
            else:
                figures[name] = figures.get(name, 0) + value * share
    if state.ranks.size == 1:
        return figures
    return {name: _over_ranks(state, name, value) for name, value in figures.items()}


def _observe(state: TrainState, probe: Objective, batches: Sequence[Batch], config: LoopConfig) -> None:
    """Show the optimiser the gradient of its probe on these batches, if it is finite, and put the step's back."""
    parameters = state.optimizer.parameters
    held = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    accumulate(state, probe, batches, config)
    count = state.ranks.sum(torch.stack([probe.count(batch) for batch in batches]).sum())
    if math.isfinite(state.ranks.norm(parameters)):
        state.optimizer.observe(float(count))
    for parameter, grad in zip(parameters, held, strict=True):
        parameter.grad = grad


def _over_ranks(state: TrainState, name: str, value: Tensor) -> Tensor:
    if name.endswith("max"):
        return state.ranks.maximum(value)
    return -state.ranks.maximum(-value) if name.endswith("min") else state.ranks.sum(value)


def _refuse(state: TrainState, record: Record, config: LoopConfig) -> str:
    """Return why a step must not be taken, or nothing."""
    if not (math.isfinite(record["loss"]) and math.isfinite(record["grad_norm"])):
        return f"loss {record['loss']}, gradient norm {record['grad_norm']}"
    if config.spike is not None and len(state.norms) >= RECENT // 4:
        usual = statistics.median(state.norms)
        if record["grad_norm"] > config.spike * usual:
            return f"gradient norm {record['grad_norm']:.3g}, {config.spike:g} times above the usual {usual:.3g}"
    return ""


def _skip(state: TrainState, why: str, config: LoopConfig) -> None:
    state.skipped += 1
    state.skipped_in_row += 1
    if state.skipped_in_row >= config.patience:
        raise HanokError(
            f"step {state.step + 1}: {why}; {state.skipped_in_row} steps in a row had to be skipped, so the run ends "
            "here (the parameters are those of the last good step): lower the learning rate, or look at the data"
        )


@contextmanager
def computing(config: LoopConfig, state: TrainState | None = None) -> Iterator[None]:
    """Set numerics, the format of products and what is computed twice for this run, and put all back."""
    if config.numerics == "exact" and config.compute != "float32":
        raise UsageError(f"exact numerics multiply as the weights are stored: compute {config.compute!r} needs 'fast'")
    if config.numerics == "exact" and config.compile != "none":
        raise UsageError("exact numerics run as they are written: loop.compile needs numerics 'fast'")
    if config.compile != "none" and (config.recompute or config.compute == "float8"):
        raise UsageError("loop.compile makes code of plain blocks: it goes with neither recompute nor compute 'float8'")
    before = torch.get_float32_matmul_precision()
    if config.compute == "mixed":
        torch.set_float32_matmul_precision("medium")
    try:
        with numerics(config.numerics), ExitStack() as stack:
            if state is not None:
                stack.enter_context(recomputing(state.model, config.recompute))
            if state is not None and config.compute == "float8":
                stack.enter_context(float8_layers(state, config.float8).attached())
            yield
    finally:
        torch.set_float32_matmul_precision(before)


class Speed:
    """Tokens per second of this process, without its first steps."""

    def __init__(self) -> None:
        self._steps, self._tokens, self._seconds = 0, 0, 0.0

    def add(self, tokens: int, seconds: float) -> float:
        """Count a step and return the figure so far."""
        self._steps += 1
        if self._steps > WARMUP_STEPS:
            self._tokens += tokens
            self._seconds += seconds
            return self._tokens / self._seconds
        return tokens / seconds
