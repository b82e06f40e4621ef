"""How much fits into the time: measure this machine for a few seconds, then choose depth and steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from hanok.core.artifact import atomic_write
from hanok.core.config import Config
from hanok.core.log import Log
from hanok.core.rng import Streams
from hanok.core.stage import Stage
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Request
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.ops.numerics import numerics
from hanok.recipes.doctor import examine
from hanok.train.config import TrainingConfig
from hanok.train.loop import computing, update
from hanok.train.objective.clm import NextToken
from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.muon import MuonConfig
from hanok.train.plan.example import Copies, next_tokens
from hanok.train.state import TrainState

BATCH, LENGTH, VOCAB = 8, 128, 1024
PROMPTS, GROUP, ANSWER = 16, 8, 16  # one step of RL: prompts, completions of each, and their usual length in tokens
FIXED = 70.0  # seconds that do not stretch with the budget: data, evaluations, quantising, serving, report
SHARES = {"pretrain": 0.34, "sft": 0.34, "dpo": 0.04, "grpo": 0.18, "ladder": 0.10}
ENOUGH = 1.5  # tokens per parameter below which a shallower model learns more in the same time
PLENTY = 6.0  # and above which a deeper one does
DEPTHS = (3, 4, 6, 8)


class PlanConfig(Config):
    """The time for everything after the set-up, or a depth chosen by hand."""

    minutes: float = Field(default=5.0, gt=0)
    depth: int | None = Field(default=None, ge=1, le=64)
    seed: int = 0


class Plan(Config):
    """What the stages of a quickstart are told."""

    depth: int
    pretrain_steps: int
    sft_steps: int
    dpo_steps: int
    grpo_steps: int
    ladder_seconds: float
    tokens_per_second: float

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read the plan of a finished `plan` stage."""
        return cls.parse(json.loads((path / "plan.json").read_text(encoding="utf-8")))


def make_plan(config: PlanConfig, inputs: dict[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Examine the machine, measure steps of training and of RL, and write plan.json."""
    machine = examine()
    seconds = max(4.0, 60 * config.minutes - FIXED)
    depth = config.depth or 4
    log.progress(f"calibrating at depth {depth}")
    measure = min(3.0, 0.01 * 60 * config.minutes)
    step = training_step_seconds(depth, measure)
    if config.depth is None:
        depth = choose_depth(depth, step, seconds * SHARES["pretrain"])
        step = training_step_seconds(depth, measure) if depth != 4 else step
    rl_step = rl_step_seconds(depth, measure)
    plan = Plan(
        depth=depth,
        pretrain_steps=_steps(seconds * SHARES["pretrain"], step),
        sft_steps=_steps(seconds * SHARES["sft"], step),
        dpo_steps=_steps(seconds * SHARES["dpo"], 1.5 * step),
        grpo_steps=_steps(seconds * SHARES["grpo"], rl_step),
        ladder_seconds=round(seconds * SHARES["ladder"], 1),
        tokens_per_second=round(BATCH * LENGTH / step, 1),
    )
    atomic_write(out / "plan.json", json.dumps(plan.to_dict(), indent=2) + "\n")
    atomic_write(out / "machine.json", json.dumps(machine, indent=2) + "\n")
    for skipped in machine["skipped"] if isinstance(machine["skipped"], list) else []:
        log.info(f"  without {skipped}")
    return {**plan.to_dict(), "machine": machine}


def choose_depth(measured: int, step: float, seconds: float) -> int:
    """Return the depth whose tokens per parameter in the time are neither starved nor wasted.

    A step's time grows about as the parameters do, that is with the cube of the depth (width follows depth).
    """
    for depth in DEPTHS:
        ratio = (depth / measured) ** 3
        tokens = seconds / (step * ratio) * BATCH * LENGTH
        if depth == DEPTHS[-1] or tokens / parameters(depth) < PLENTY:
            break
    at = DEPTHS.index(depth)
    starved = seconds / (step * (depth / measured) ** 3) * BATCH * LENGTH / parameters(depth) < ENOUGH
    return DEPTHS[max(0, at - 1)] if starved else depth


def parameters(depth: int) -> int:
    """Return the parameters of the preset at a depth."""
    return sum(p.numel() for p in _model(depth, device="meta").parameters())


def training_step_seconds(depth: int, seconds: float) -> float:
    """Return the usual time of a training step of the quickstart's shape."""
    model = _model(depth)
    config = TrainingConfig(steps=1, optimizer=MuonConfig())
    optimizer = OPTIMIZERS["muon"](MuonConfig(), model)
    state = TrainState(
        model, optimizer, Copies(next_tokens(VOCAB, BATCH, LENGTH)), 1, rng=Streams(0), fingerprint=config.digest()
    )
    with computing(config.loop):
        return usual_seconds(lambda: update(state, NextToken(NextToken.Config()), config.loop, 1.0), seconds)


def rl_step_seconds(depth: int, seconds: float) -> float:
    """Return the usual time of sampling and learning from one round of completions in exact numerics."""
    model = _model(depth)
    requests = [Request([5] * 20, ANSWER, temperature=1.0, seed=i, ignore_eos=True) for i in range(PROMPTS * GROUP)]
    tokens = torch.randint(0, VOCAB, (PROMPTS * GROUP, 24 + ANSWER))

    def step() -> None:
        Engine(LLM(model), numerics="exact").generate(requests)
        with numerics("exact"):
            model(tokens).float().logsumexp(-1).sum().backward()

    return usual_seconds(step, seconds)


def usual_seconds(function: Callable[[], object], seconds: float) -> float:
    """Return the lower quartile of a call's time after one that warms up: a passing load does not move it."""
    function()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 4]


def _model(depth: int, device: str = "cpu") -> Model:
    return Model(ModelConfig.preset("llama-depth", depth=depth, vocab=VOCAB), device=device)


def _steps(seconds: float, step: float) -> int:
    return max(10, round(seconds / step))


PLAN = Stage("plan", "plan", PlanConfig, make_plan)
