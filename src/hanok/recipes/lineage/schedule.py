"""The shared budget: a few timed steps of every contestant say how many of them fit into the minutes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from hanok.core.artifact import atomic_write
from hanok.core.config import Config
from hanok.core.log import Log
from hanok.core.stage import Stage
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.recipes.lineage.contestants import NGRAM, Contestant, choose
from hanok.recipes.lineage.given import Given, halved
from hanok.recipes.lineage.learn import SHOWN, WINDOW
from hanok.recipes.lineage.task import BATCH, CONTEXT, DISTANCES, PAIRS, PROBES, TRAINED_DISTANCE, VOCAB, ProbeStream
from hanok.text.batch import Batch
from hanok.text.data.stream import window_batch
from hanok.text.tokenizer import Tokenizer

ROWS = 8  # windows of text in a step
SHARES = {"language": 0.5, "recall": 0.3, "copy": 0.2}
SETUP, EACH = 15.0, 2.0  # seconds that do not stretch: data and page; starting and saving each contestant
TIMED = 0.6  # seconds of timed steps of each kind
FEWEST = 4
# From so many minutes on: tokens of text and questions of a probe that everybody is measured on.
AMOUNTS = ((15, (32768, 512)), (2, (8192, 256)), (0.5, (4096, 128)), (0, (1024, 32)))


class ScheduleConfig(Config):
    """The minutes for everything, for whom, and what shall be equal: tokens read, or seconds of training."""

    minutes: float = Field(default=25.0, gt=0)
    only: tuple[str, ...] = ()
    budget: Literal["tokens", "seconds"] = "tokens"
    seed: int = 0


class Schedule(Config):
    """Steps of each contestant, by kind of training, and the seconds that a step took when it was timed."""

    steps: dict[str, dict[str, int]]
    seconds: dict[str, dict[str, float]]
    evaluation_tokens: int
    questions: int

    @classmethod
    def load(cls, path: Path) -> Schedule:
        """Read what a finished stage has written."""
        return cls.parse(json.loads((path / "schedule.json").read_text(encoding="utf-8")))


def make_schedule(config: ScheduleConfig, inputs: dict[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Time a few steps of everybody and write schedule.json."""
    racers = choose(config.only)
    vocab = Tokenizer.load(inputs["tokens"]).vocab_size
    total = 60 * config.minutes
    limit = min(TIMED, total / 40 / len(racers))
    seconds: dict[str, dict[str, float]] = {}
    for racer in racers:
        if racer.name != NGRAM:
            log.progress(f"timing {racer.title}")
            seconds[racer.name] = {kind: step_seconds(racer, kind, vocab, limit) for kind in SHARES}
    tokens, questions = next(amounts for minutes, amounts in AMOUNTS if config.minutes >= minutes)
    measuring = sum(measuring_seconds(each, tokens, questions) for each in seconds.values())
    free = max(total - SETUP - EACH * len(racers) - measuring, total / 2)
    steps = {name: {} for name in seconds}  # type: dict[str, dict[str, int]]
    for kind, share in SHARES.items():
        together = free * share / max(1e-9, sum(each[kind] for each in seconds.values()))
        for name, each in seconds.items():
            own = free * share / len(seconds) / each[kind]
            steps[name][kind] = max(FEWEST, int(together if config.budget == "tokens" else own))
    shared = {kind: max([FEWEST, *(each[kind] for each in steps.values())]) for kind in SHARES}
    steps |= {NGRAM: shared} if any(racer.name == NGRAM for racer in racers) else {}
    plan = Schedule(steps=steps, seconds=seconds, evaluation_tokens=tokens, questions=questions)
    atomic_write(out / "schedule.json", json.dumps(plan.to_dict(), indent=2) + "\n")
    return {"language_tokens": {name: each["language"] * ROWS * WINDOW for name, each in steps.items()}}


def step_seconds(racer: Contestant, kind: str, vocab: int, limit: float) -> float:
    """Return the lower quartile of a step's seconds: forward, backward and the optimiser, which costs little beside."""
    source = racer.reads == "source"
    if kind == "language":
        model = racer.language_config(vocab, 4 * WINDOW)
        window = window_batch(torch.randint(0, vocab, (ROWS, WINDOW + 1)).numpy())
        batch = halved(window) if source else window
        return _timed(model, lambda: batch, limit)
    probe = next(probe for probe in PROBES if probe == kind)
    stream = ProbeStream(probe, BATCH, 0, source)
    batches = [stream.next_batch() for _ in range(16)]
    batches.sort(key=lambda batch: batch.tokens.numel())
    return _timed(racer.probe_config(VOCAB[probe], CONTEXT[probe]), lambda: batches[9], limit)


def measuring_seconds(step: dict[str, float], tokens: int, questions: int) -> float:
    """Return about how long a contestant's measurements take: forwards alone, a third of a step for as many tokens."""
    text = (2 * tokens + 9 * SHOWN * WINDOW) / (ROWS * WINDOW)
    recall = questions * sum(distance + 2 * PAIRS for distance in DISTANCES) / (BATCH * TRAINED_DISTANCE)
    return (step["language"] * text + step["recall"] * recall) / 3


def _timed(config: ModelConfig, next_batch: Callable[[], Batch], limit: float) -> float:
    model, given = Model(config), Given()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    times: list[float] = []
    until = time.perf_counter() + limit
    while len(times) < 2 or time.perf_counter() < until:
        started = time.perf_counter()
        given(model, next_batch())[0].backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[len(times[1:]) // 4]


SCHEDULE = Stage("schedule", "plan", ScheduleConfig, make_schedule, {"tokens": "tokens"})
