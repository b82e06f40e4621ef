"""The race: the same text and the same probes for everybody, each contestant in stages that a second call takes up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator

from hanok.core.artifact import Artifact
from hanok.core.config import Config
from hanok.core.device import thread_count
from hanok.core.errors import UsageError
from hanok.recipes.lineage.contestants import NGRAM, Contestant, choose
from hanok.recipes.lineage.learn import COUNT, LEARN, WINDOW, CountConfig, LearnConfig
from hanok.recipes.lineage.probe import COUNT_PROBE, PROBE, CountProbeConfig, ProbeConfig
from hanok.recipes.lineage.reach import CELLS, ReachConfig, reach_stage
from hanok.recipes.lineage.results import collect, write_results
from hanok.recipes.lineage.schedule import ROWS, SCHEDULE, Schedule, ScheduleConfig
from hanok.recipes.lineage.task import BATCH, CONTEXT, PROBES, VOCAB
from hanok.recipes.steps import Steps
from hanok.text.data.prepare import DataConfig
from hanok.text.stages import DATA
from hanok.train.allocator import keep_freed_memory
from hanok.train.optim.adamw import AdamWConfig
from hanok.train.schedule.linear import Linear

Json = dict[str, Any]


class LineageConfig(Config):
    """What a user may choose: the time, who runs, what shall be equal, the text, the seed."""

    minutes: float = Field(default=25.0, gt=0)
    only: tuple[str, ...] = ()
    budget: Literal["tokens", "seconds"] = "tokens"
    data: tuple[str, ...] = ()
    vocab_size: int = Field(default=1024, ge=261)
    seed: int = 0

    @model_validator(mode="after")
    def _known(self) -> Self:
        try:
            choose(self.only)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self


class Race(Steps):
    """The steps of all contestants."""

    def __init__(self, config: LineageConfig, root: Path, *, fresh: bool = False, quiet: bool = False) -> None:
        super().__init__(root, fresh=fresh, quiet=quiet)
        self.config = config

    def said(self, name: str, artifact: Artifact) -> str:
        return said(artifact.metrics)

    def run(self) -> Json:
        """Run everything and write results.json, table.md and a CSV of every figure; return the results."""
        config, started = self.config, time.monotonic()
        torch.set_num_threads(thread_count())
        keep_freed_memory()
        prose = DataConfig.parse(
            {"paths": config.data, "vocab_size": config.vocab_size, "tasks": (), "seed": config.seed}
        )
        tokens = self.step("data", DATA, prose.pin()).path
        timing = ScheduleConfig(minutes=config.minutes, only=config.only, budget=config.budget, seed=config.seed)
        plan = Schedule.load(self.step("schedule", SCHEDULE, timing, tokens=tokens).path)
        for racer in choose(config.only):
            if racer.name == NGRAM:
                self._count(plan, tokens)
            else:
                self._train(racer, plan, tokens)
        cells = [cell for cell in CELLS if cell in self.made]
        if cells:
            trained = {cell: self.made[cell].path for cell in cells}
            self.step("reach", reach_stage(cells), ReachConfig(), tokens=tokens, **trained)
        results = collect(self.made, config.to_dict(), plan)
        write_results(results, self.root)
        self.log.info(f"done in {(time.monotonic() - started) / 60:.1f} min")
        return results

    def _train(self, racer: Contestant, plan: Schedule, tokens: Path) -> None:
        vocab = int(self.made["data"].metrics["vocab_size"])
        steps, seed = plan.steps[racer.name], self.config.seed
        language = LearnConfig(
            name=racer.name,
            model=racer.language_config(vocab, 4 * WINDOW),
            reads=racer.reads,
            start=racer.start,
            evaluation_tokens=plan.evaluation_tokens,
            validate_every=max(2, steps["language"] // 8),
            steps=steps["language"],
            batch=ROWS,
            **learning(racer.lr),
            seed=seed,
        )
        self.step(racer.name, LEARN, language, tokens=tokens)
        for probe in PROBES:
            config = ProbeConfig(
                name=racer.name,
                probe=probe,
                model=racer.probe_config(VOCAB[probe], CONTEXT[probe]),
                reads=racer.reads,
                questions=plan.questions,
                steps=steps[probe],
                batch=BATCH,
                **learning(racer.probe_lr),
                seed=seed,
            )
            self.step(f"{racer.name}-{probe}", PROBE, config)

    def _count(self, plan: Schedule, tokens: Path) -> None:
        steps = plan.steps[NGRAM]
        read = steps["language"] * ROWS * WINDOW
        counting = CountConfig(train_tokens=read, evaluation_tokens=plan.evaluation_tokens)
        self.step(NGRAM, COUNT, counting, tokens=tokens)
        for probe in PROBES:
            config = CountProbeConfig(
                probe=probe, steps=steps[probe], batch=BATCH, questions=plan.questions, seed=self.config.seed
            )
            self.step(f"{NGRAM}-{probe}", COUNT_PROBE, config)


def learning(lr: float) -> Json:
    """Return what all networks share in how they learn, beside the rate."""
    return {
        "optimizer": AdamWConfig(lr=lr, weight_decay=0.01),
        "schedule": Linear.Config(warmup=0.05, final=0.05),
        "save_seconds": 20,
    }


def said(m: Json) -> str:
    """Return the figures of a step in one line."""
    parts = []
    if "bits_per_byte" in m:
        parts.append(f"{m['bits_per_byte']:.3f} bits/byte")
        parts.append(f"{m['tokens_read']:,} tokens in {m['training_seconds']:.0f} s")
    elif "loss" in m:
        parts.append(f"loss {m['loss']:.3f} after {m['steps']} steps")
    elif "train_tokens" in m:
        parts.append(f"{m['train_tokens']:,} tokens, vocabulary {m['vocab_size']}")
    return " · ".join(parts)
