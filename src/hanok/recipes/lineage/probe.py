"""The probes: a small model of a contestant's kind learns one from nothing, and is asked farther than that."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hanok.classic.ngram import NGram
from hanok.core.artifact import atomic_write
from hanok.core.config import Config
from hanok.core.log import Log
from hanok.core.stage import Stage
from hanok.eval.figure import wilson
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.model.size import count_model
from hanok.recipes.lineage.given import Given, logits_of
from hanok.recipes.lineage.task import BATCH, CHANCE, VOCAB, Probe, ProbeStream, questions
from hanok.text.batch import Batch
from hanok.train.config import TrainingConfig
from hanok.train.run import Runner

Json = dict[str, Any]


class ProbeConfig(TrainingConfig):
    """One contestant on one probe; `questions` are asked at every distance or length."""

    name: str
    probe: Probe
    model: ModelConfig
    reads: Literal["prefix", "source"] = "prefix"
    questions: int = Field(512, ge=8)
    batch: int = BATCH


class CountProbeConfig(Config):
    """An n-gram on one probe: it counts the batches that the networks learn from."""

    probe: Probe
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    order: int = Field(4, ge=2)
    questions: int = Field(512, ge=8)
    seed: int = 0


def learn_probe(config: ProbeConfig, inputs: dict[str, Path], out: Path, log: Log) -> Json:
    """Train on the probe and write answers.json: how often every answer was right, by distance or length."""
    model, split = Model(config.model, seed=config.seed), config.reads == "source"
    stream = ProbeStream(config.probe, config.batch, config.seed, split)
    record = Runner(config, out, log, title=f"{config.name} {config.probe}").run(model, stream, Given())
    found = []
    for word, k, batches in questions(config.probe, config.questions, config.seed, split=split):
        right = torch.cat([right_answers(model, batch) for batch in batches])
        found.append({"word": word, "k": k, **figures(right)})
    atomic_write(out / "answers.json", json.dumps(found) + "\n")
    return {
        "steps": record["steps"],
        "loss": record["loss"],
        "seconds_training": record["seconds"],
        "tokens": record["num_tokens"],
        "parameters": count_model(model).params,
        "lr": config.optimizer.lr,
    }


def count_probe(config: CountProbeConfig, inputs: dict[str, Path], out: Path, log: Log) -> Json:
    """Count the same batches, answer greedily, and write answers.json."""
    started, stream = time.perf_counter(), ProbeStream(config.probe, config.batch, config.seed, split=False)
    documents: list[np.ndarray[Any, Any]] = []
    for _ in range(config.steps):
        batch = stream.next_batch()
        documents += list(torch.cat((batch.tokens, batch.targets[:, -1:]), 1).numpy())
    spec = {"order": config.order, "vocab_size": VOCAB[config.probe], "smoothing": "witten_bell"}
    model = NGram(NGram.Config.parse(spec)).fit(documents)
    seconds, found = time.perf_counter() - started, []
    known: dict[tuple[int, ...], int] = {}
    for word, k, batches in questions(config.probe, config.questions, config.seed, split=False):
        log.progress(f"ngram {config.probe}: asking {word} {k}")
        right = torch.cat([_counted_answers(model, batch, known) for batch in batches])
        found.append({"word": word, "k": k, **figures(right)})
    atomic_write(out / "answers.json", json.dumps(found) + "\n")
    return {"steps": config.steps, "seconds_training": seconds, "parameters": sum(model.sizes), "lr": None}


@torch.no_grad()
def right_answers(model: Model, batch: Batch) -> Tensor:
    """Return which tokens (n, answers) of the answers were the likeliest, each given the right ones before it.

    A row that is right throughout is right when the model writes on its own, greedily, too: it would have written just
    these tokens.
    """
    logits, where = logits_of(model, batch)
    return (logits.argmax(-1) == batch.targets.flatten()[where]).view(len(batch.tokens), -1)


def figures(right: Tensor) -> Json:
    """Return the share of rows that are right throughout with its 95 % Wilson interval, and the share of tokens."""
    whole = int(right.all(1).sum())
    low, high = wilson(whole / len(right), len(right))
    return {
        "right": whole / len(right),
        "low": low,
        "high": high,
        "n": len(right),
        "tokens": float(right.float().mean()),
    }


def chance(probe: Probe, k: int) -> float:
    """Return how often a guess among all symbols is right throughout."""
    return CHANCE[probe] if probe == "recall" else float(CHANCE[probe] ** k)


def _counted_answers(model: NGram, batch: Batch, known: dict[tuple[int, ...], int]) -> Tensor:
    """Return which tokens of the answers are the likeliest after what stands before them.

    `known` keeps the likeliest token of contexts met before: they are few, and a distribution takes its time.
    """
    reach, found = model.config.order - 1, []
    for tokens, targets, weights in zip(*map(Tensor.tolist, (batch.tokens, batch.targets, batch.weights)), strict=True):
        answered = [at for at, weight in enumerate(weights) if weight]
        row = []
        for at in answered:
            context = tuple(tokens[max(0, at + 1 - reach) : at + 1])
            if context not in known:
                known[context] = int(model.distribution(context).argmax())
            row.append(known[context] == targets[at])
        found.append(row)
    return torch.tensor(found)


PROBE = Stage("probe", "lineage-probe", ProbeConfig, learn_probe)
COUNT_PROBE = Stage("ngram-probe", "lineage-probe", CountProbeConfig, count_probe)
