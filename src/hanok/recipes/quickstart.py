"""A model's whole life in minutes: every stage of the house once, each on the artifacts of the ones before."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from hanok.align.reward.closeness import Closeness
from hanok.align.reward.exact_match import ExactMatch
from hanok.align.stages import DPO, GRPO, DPOConfig, GRPOConfig
from hanok.compress.stages import QUANTIZE, QuantizeConfig
from hanok.core.artifact import Artifact
from hanok.core.config import Config
from hanok.core.device import thread_count
from hanok.eval.stages import EvalConfig, stage_for
from hanok.recipes.focus import FOCUS, FocusConfig
from hanok.recipes.lines import summary
from hanok.recipes.plan import BATCH, GROUP, LENGTH, PLAN, PROMPTS, VOCAB, Plan, PlanConfig
from hanok.recipes.smoke import SMOKE, SmokeConfig
from hanok.recipes.steps import Steps
from hanok.report.write import write_report
from hanok.scaling.ladder import LadderConfig
from hanok.scaling.stages import LADDER
from hanok.serve import ServeConfig, serve
from hanok.text.data.prepare import DataConfig
from hanok.text.stages import DATA, TASK_SETS
from hanok.text.task.sets import TaskSetsConfig
from hanok.train.allocator import keep_freed_memory
from hanok.train.optim.adamw import AdamWConfig
from hanok.train.optim.muon import MuonConfig
from hanok.train.stages import PRETRAIN, SFT, PretrainConfig, SFTConfig

# Hard enough that each stage has something to win, easy enough for a million parameters in minutes.
TASKS: tuple[dict[str, Any], ...] = (
    {"kind": "addition", "digits": [1, 2]},
    {"kind": "copy", "length": [2, 6]},
    {"kind": "reversal", "length": [2, 6]},
    {"kind": "json_extract", "entries": [2, 3], "digits": [1, 1], "keys": 6},
    {"kind": "josa"},
)
# One in six demonstrations of particles is wrong: imitation learns the doubt, a reward that is checked removes it.
CARELESS = {"josa": 1 / 6}
# The rates of pre-training again: few steps have to teach a new behaviour, not to polish an old one.
MUON = {"kind": "muon", "lr": 0.02, "adamw": {"kind": "adamw", "lr": 0.012, "weight_decay": 0.0}}


class QuickstartConfig(Config):
    """What a user may choose; everything else follows from the machine and the time."""

    minutes: float = Field(default=5.0, gt=0)
    depth: int | None = Field(default=None, ge=1, le=64)
    data: tuple[str, ...] = ()
    port: int = Field(default=8000, ge=0, le=65535)
    seed: int = 0


class Life(Steps):
    """The steps of one model's life."""

    def __init__(self, config: QuickstartConfig, root: Path, *, fresh: bool, quiet: bool) -> None:
        super().__init__(root, fresh=fresh, quiet=quiet)
        self.config = config

    def said(self, name: str, artifact: Artifact) -> str:
        return summary(name, artifact)

    def path(self, name: str) -> Path:
        """Return the folder of a step that is done."""
        return self.made[name].path

    def measure(self, label: str, model: str, *baselines: str, drawn: Literal["none", "once"] = "none") -> None:
        """Evaluate a model: held-out accuracy of each task, and bits per byte of held-out text."""
        inputs = {"model": self.path(model), "tasks": self.path("tasks"), "tokens": self.path("data")}
        config = EvalConfig(label=label, baselines=baselines, max_bytes=40_000, max_tokens=24, drawn=drawn)
        self.step(f"eval-{label}", stage_for(inputs), config, **inputs)


def live(config: QuickstartConfig, root: Path, *, fresh: bool = False, quiet: bool = False) -> Path:
    """Run every stage, write report.html, and, on a terminal, keep the server up; return the report's path."""
    _use_machine()
    started = time.monotonic()
    life = Life(config, root, fresh=fresh, quiet=quiet)
    life.step("plan", PLAN, PlanConfig(minutes=config.minutes, depth=config.depth, seed=config.seed))
    plan = Plan.load(life.path("plan"))
    _prepare(life)
    _pretrain(life, plan)
    _align(life, plan)
    _study(life, plan)
    port = config.port
    life.step("serve", SMOKE, SmokeConfig(port=port), model=life.path("grpo"), tasks=life.path("tasks"))
    page = _report(life)
    life.log.info(f"done in {(time.monotonic() - started) / 60:.1f} min: {page}")
    _invite(life, page, port)
    return page


def _prepare(life: Life) -> None:
    seed, data = life.config.seed, life.config.data
    corpus = DataConfig.parse({"paths": data, "vocab_size": VOCAB, "tasks": TASKS, "task_share": 0.3, "seed": seed})
    life.step("data", DATA, corpus.pin())
    counts = {"conversations": 4000, "preferences": 400, "prompts": 1000, "held_out": 200}
    sets = {"tasks": TASKS, "careless": CARELESS, **counts, "seed": seed}
    life.step("tasks", TASK_SETS, TaskSetsConfig.parse(sets))


def _pretrain(life: Life, plan: Plan) -> None:
    steps = plan.pretrain_steps
    config = PretrainConfig(
        preset="llama-depth",
        dials={"depth": plan.depth},
        steps=steps,
        batch=BATCH,
        length=LENGTH,
        validate_every=max(1, steps // 8),
        save_seconds=10,
        seed=life.config.seed,
    )
    life.step("pretrain", PRETRAIN, config, tokens=life.path("data"))
    life.measure("base", "pretrain", "uniform", "gzip", "ngram")


def _align(life: Life, plan: Plan) -> None:
    seed, tasks = life.config.seed, life.path("tasks")
    muon = MuonConfig.parse(MUON)
    sft = SFTConfig(steps=plan.sft_steps, batch=BATCH, length=LENGTH, optimizer=muon, save_seconds=10, seed=seed)
    life.step("sft", SFT, sft, model=life.path("pretrain"), conversations=tasks / "conversations.jsonl")
    life.measure("sft", "sft")
    dpo = DPOConfig(steps=plan.dpo_steps, batch=16, length=LENGTH, save_seconds=10, seed=seed, optimizer=_gentle(5e-5))
    life.step("dpo", DPO, dpo, model=life.path("sft"), preferences=tasks / "preferences.jsonl")
    life.measure("dpo", "dpo", drawn="once")
    focus = life.step("focus", FOCUS, FocusConfig(low=0.4, high=0.95), model=life.path("dpo"), tasks=tasks)
    grpo = GRPOConfig(
        steps=plan.grpo_steps,
        batch=PROMPTS,
        group=GROUP,
        max_tokens=24,
        length=LENGTH,
        save_seconds=10,
        seed=seed,
        rewards=(ExactMatch.Config(), Closeness.Config(weight=0.5)),
        optimizer=_gentle(6e-4),
    )
    life.step("grpo", GRPO, grpo, model=life.path("dpo"), prompts=focus.path)
    life.measure("grpo", "grpo", drawn="once")


def _study(life: Life, plan: Plan) -> None:
    samples = min(200, 40 + int(10 * plan.ladder_seconds))  # refits take time, too
    ladder = LadderConfig(seconds=plan.ladder_seconds, samples=samples, seed=life.config.seed)
    life.step("ladder", LADDER, ladder, tokens=life.path("data"))
    life.step("quantize", QUANTIZE, QuantizeConfig(), model=life.path("grpo"), tokens=life.path("data"))
    life.measure("int8", "quantize")


def _report(life: Life) -> Path:
    config = life.config
    command = f"hanok quickstart --minutes {config.minutes:g} --seed {config.seed}"
    command += f" --depth {config.depth}" if config.depth else ""
    command += f" --data {shlex.join(config.data)}" if config.data else ""
    return write_report(life.made, life.root, title="hanok quickstart", command=command)


def _gentle(lr: float) -> AdamWConfig:
    return AdamWConfig(lr=lr, weight_decay=0.0)


def _use_machine() -> None:
    import torch

    torch.set_num_threads(thread_count())
    keep_freed_memory()


def _invite(life: Life, page: Path, port: int) -> None:
    """Keep the server up on a terminal; elsewhere say how to start it."""
    model = life.path("grpo")
    if not sys.stdout.isatty():
        life.log.info(f"talk to it: hanok serve {model}   or   hanok chat {model}")
        return
    examples = ("47 + 5 =", "reverse: k e a", "사과 + (은/는)", '{"size": 7, "age": 4} age =')
    serve(model, ServeConfig(port=port, report=page, model_name="hanok-quickstart", examples=examples))
