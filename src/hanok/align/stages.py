"""Preference learning and reinforcement learning as stages, and as plain functions of the same shape."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from hanok.align.advantage import ADVANTAGES
from hanok.align.advantage.grpo import GroupNormalised
from hanok.align.pairs import PairStream, encode_pairs, score_pairs
from hanok.align.prompts import read_prompts
from hanok.align.reward import REWARDS, Reward
from hanok.align.reward.exact_match import ExactMatch
from hanok.align.rollout import RolloutConfig, Rollouts, Scored
from hanok.core.config import spec_type
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.stage import Stage
from hanok.engine.local import LLM
from hanok.text.data.read import read_preferences
from hanok.train.bundle import Bundle
from hanok.train.config import TrainingConfig
from hanok.train.data import file_of
from hanok.train.hook import Hook, Record
from hanok.train.hook.samples import Samples
from hanok.train.hook.validate import Measure
from hanok.train.loop import LoopConfig, computing
from hanok.train.objective.dpo import DPO as DPOLoss
from hanok.train.objective.grpo import GRPO as GRPOLoss
from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.adamw import AdamWConfig
from hanok.train.run import Runner
from hanok.train.state import TrainState

Metrics = dict[str, Any]
GENTLE = AdamWConfig(lr=2e-4, weight_decay=0.0)


class DPOConfig(TrainingConfig):
    """Preference learning; `batch` counts pairs, and pairs longer than `length` are left out."""

    objective: DPOLoss.Config = DPOLoss.Config()
    optimizer: spec_type(OPTIMIZERS) = GENTLE  # type: ignore[valid-type]


class GRPOConfig(TrainingConfig):
    """Reinforcement learning; a step is `batch` prompts with `group` completions of at most `max_tokens` each.

    `length` bounds prompt and completion together, `updates` is how often a round of completions is learned from.
    """

    group: int = Field(8, ge=2)
    max_tokens: int = Field(32, ge=1)
    updates: int = Field(1, ge=1)
    rewards: tuple[spec_type(REWARDS), ...] = (ExactMatch.Config(),)  # type: ignore[valid-type]
    advantage: spec_type(ADVANTAGES) = GroupNormalised.Config()  # type: ignore[valid-type]
    objective: GRPOLoss.Config = GRPOLoss.Config()
    optimizer: spec_type(OPTIMIZERS) = GENTLE  # type: ignore[valid-type]
    loop: LoopConfig = LoopConfig(numerics="exact")
    samples_every: int = Field(10, ge=0)
    samples: int = Field(8, ge=0)

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.max_tokens >= self.length:
            raise ValueError(f"max_tokens {self.max_tokens} leaves no room for a prompt in length {self.length}")
        return self


def dpo(
    config: DPOConfig,
    inputs: Mapping[str, Path],
    out: Path,
    log: Log,
    *,
    measure: Measure | None = None,
    hooks: Sequence[Hook] = (),
) -> Metrics:
    """Learn from preferences and write the model to `out`; the reference is the model that came in.

    `inputs["preferences"]` is a file of prompt, chosen and rejected, or a directory with preferences.jsonl.
    """
    if config.parallel.context > 1 or config.parallel.pipeline > 1:
        raise UsageError("parallel: dpo compares whole answers side by side; use data, shard, tensor or expert")
    bundle = Bundle.load(inputs["model"], device=config.device)
    rows = read_preferences([file_of(inputs["preferences"], "preferences.jsonl", "train.jsonl")])
    pairs = encode_pairs(rows, bundle.tokenizer, bundle.speaking(), length=config.length)
    if len(pairs) < len(rows):
        log.info(f"dpo: {len(rows) - len(pairs)} of {len(rows)} pairs are longer than {config.length} and left out")
    with computing(config.loop):
        reference = score_pairs(bundle.model, pairs, bundle.pad_id)
    source = PairStream(pairs, reference, batch=config.batch, pad_id=bundle.pad_id, seed=config.seed)
    runner = Runner(config, out, log, title="dpo")
    show = ("rewards/margins", "rewards/accuracies")
    record = runner.run(bundle.model, source, DPOLoss(config.objective), measure=measure, hooks=hooks, show=show)
    bundle.save(out)
    return {**record, "epochs": source.epochs}


def grpo(
    config: GRPOConfig,
    inputs: Mapping[str, Path],
    out: Path,
    log: Log,
    *,
    rewards: Sequence[Reward] | None = None,
    measure: Measure | None = None,
    hooks: Sequence[Hook] = (),
) -> Metrics:
    """Learn from rewards and write the model to `out`; `rewards` (functions of TRL's shape) replace the config's.

    `inputs["prompts"]` is a file of prompts and the columns that the rewards read, or a directory with prompts.jsonl.
    """
    if config.parallel.size > 1:
        raise UsageError("parallel: grpo samples from the model that it trains, which one process has to hold whole")
    bundle = Bundle.load(inputs["model"], device=config.device)
    chat = bundle.speaking()
    if config.length > bundle.model.config.context:
        raise UsageError(f"length {config.length} exceeds the model's context of {bundle.model.config.context}")
    file = file_of(inputs["prompts"], "prompts.jsonl", "train.jsonl")
    prompts = read_prompts(file, bundle.tokenizer, chat, length=config.length - config.max_tokens)
    source = Rollouts(
        LLM(bundle.model, bundle.tokenizer, chat, ids=bundle.ids),
        prompts,
        _scored(config) if rewards is None else [Scored(_name(fn), 1.0, fn) for fn in rewards],
        ADVANTAGES[config.advantage.kind](config.advantage),
        RolloutConfig(
            prompts=config.batch,
            group=config.group,
            max_tokens=config.max_tokens,
            parts=config.loop.accumulate,
            updates=config.updates,
            numerics=config.loop.numerics,
            seed=config.seed,
        ),
        reference=copy.deepcopy(bundle.model) if config.objective.beta else None,
    )
    before: list[Hook] = [RolloutFigures(source), *hooks]
    if config.samples:
        before.append(
            Samples(lambda model: source.table[: config.samples], out / "samples.jsonl", every=config.samples_every)
        )
    runner = Runner(config, out, log, title="grpo")
    show = ("reward", "kl", "entropy")
    record = runner.run(bundle.model, source, GRPOLoss(config.objective), measure=measure, hooks=before, show=show)
    bundle.save(out)
    return record


class RolloutFigures(Hook):
    """Adds the figures of the round that a step learned from."""

    def __init__(self, source: Rollouts) -> None:
        self.source = source

    def after_step(self, state: TrainState, record: Record) -> None:
        """Add them."""
        record.update(self.source.figures)


def _scored(config: GRPOConfig) -> list[Scored]:
    return [Scored(part.kind, part.weight, REWARDS[part.kind](part)) for part in config.rewards]


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


DPO = Stage("dpo", "model", DPOConfig, dpo, {"model": "model", "preferences": "preferences"})
GRPO = Stage("grpo", "model", GRPOConfig, grpo, {"model": "model", "prompts": "prompts"})
