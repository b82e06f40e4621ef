"""Evaluation as a stage: bits per byte and held-out accuracies of a model directory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from hanok.core.artifact import atomic_write
from hanok.core.config import Config
from hanok.core.errors import QualityGateError, UsageError, suggest
from hanok.core.log import Log
from hanok.core.stage import Stage
from hanok.eval.baseline import BASELINES, Held
from hanok.eval.classic import answers, load, reader
from hanok.eval.figure import table
from hanok.eval.generate import Question, read_questions, summarise, write_samples
from hanok.eval.likelihood import Reader, bits_per_byte
from hanok.text.data.read import read_documents
from hanok.text.data.shard import INDEX, Shards
from hanok.text.tokenizer import Tokenizer

LOWER_IS_BETTER = ("bits_per_byte", "bits_per_char")
KINDS = {"model": "model", "tasks": "tasks", "tokens": "tokens"}


class EvalConfig(Config):
    """What to measure; `label` is the name under which a report shows the model (its stage, say).

    `max_bytes` bounds the held-out text, `limit` the questions of each task; `baselines` are worked out once and only
    where asked for. `numerics` "exact" makes every figure independent of batch sizes. `drawn` asks every question once
    more, with an answer drawn at temperature 1: its mean score is the reward that reinforcement learning raises.
    """

    label: str = ""
    numerics: Literal["exact", "fast"] = "exact"
    baselines: tuple[str, ...] = ()
    window: int | None = Field(None, ge=2)
    batch: int = Field(8, ge=1)
    max_bytes: int | None = Field(None, ge=1)
    limit: int | None = Field(None, ge=1)
    max_tokens: int = Field(48, ge=1)
    drawn: Literal["none", "once"] = "none"


def run_eval(config: EvalConfig, inputs: Mapping[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Write results.json, table.md and samples_<task>.jsonl, and return the figures."""
    model = load(inputs["model"])
    results: dict[str, Any] = {"label": config.label, "numerics": config.numerics, "tasks": {}, "baselines": {}}
    rows: list[tuple[str, str, str, float, float | None]] = []
    if "tokens" in inputs:
        log.progress("eval: bits per byte")
        texts = held_out_texts(inputs["tokens"], config.max_bytes)
        subject = reader(model)
        bits = bits_per_byte(subject, texts, window=config.window, batch=config.batch, numerics=config.numerics)
        results["text"] = bits.to_dict()
        rows.append(("held-out text", "bits_per_byte", "↓", bits.per_byte, None))
        results["baselines"] = _baselines(config, subject, inputs["tokens"], texts)
        rows += [(name, "bits_per_byte", "↓", value, None) for name, value in results["baselines"].items()]
    if "tasks" in inputs:
        questions = read_questions(_file(inputs["tasks"]))
        if config.limit is not None:
            questions = first_of_each(questions, config.limit)
        samples = answers(model, questions, max_tokens=config.max_tokens, numerics=config.numerics, log=log)
        write_samples(samples, out)
        for figure in summarise(samples, questions):
            results["tasks"][figure.task] = figure.to_dict()
            rows.append((figure.task, "acc", "↑", figure.value, figure.stderr))
        if config.drawn == "once":
            again = answers(
                model, questions, max_tokens=config.max_tokens, numerics=config.numerics, temperature=1.0, log=log
            )
            results["drawn"] = {figure.task: figure.to_dict() for figure in summarise(again, questions)}
            rows += [(task, "reward", "↑", f["value"], f["stderr"]) for task, f in results["drawn"].items()]
    atomic_write(out / "results.json", json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    atomic_write(out / "table.md", table(rows) + "\n")
    return flat(results)


def flat(results: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of results.json under one name each: bits_per_byte, acc/<task>, acc/mean, baseline/<name>.

    reward/<task> is the mean score of drawn answers.
    """
    figures: dict[str, float] = {}
    if "text" in results:
        figures |= {name: results["text"][name] for name in LOWER_IS_BETTER}
    figures |= {f"baseline/{name}": value for name, value in results["baselines"].items()}
    values = {name: figure["value"] for name, figure in results["tasks"].items()}
    figures |= {f"acc/{name}": value for name, value in values.items()}
    if values:
        figures["acc/mean"] = sum(values.values()) / len(values)
    figures |= {f"reward/{name}": figure["value"] for name, figure in results.get("drawn", {}).items()}
    return figures


def first_of_each(questions: Sequence[Question], limit: int) -> list[Question]:
    """Return at most `limit` questions of each task, in order."""
    seen: Counter[str] = Counter()
    kept = []
    for question in questions:
        seen[question.task] += 1
        if seen[question.task] <= limit:
            kept.append(question)
    return kept


def check_bars(figures: Mapping[str, Any], bars: Mapping[str, float]) -> None:
    """Raise `QualityGateError` where a figure misses its bar: accuracies must reach it, bits must not exceed it."""
    missed = []
    for name, bar in bars.items():
        key = name if name in figures else f"acc/{name}"
        if key not in figures:
            raise UsageError(
                f"fail-under: there is no figure {name!r}{suggest(name, figures)} (known: {sorted(figures)})"
            )
        value = float(figures[key])
        below = key not in LOWER_IS_BETTER
        if (value < bar) if below else (value > bar):
            missed.append(f"{key} is {value:.4f}, {'below' if below else 'above'} the bar of {bar:g}")
    if missed:
        raise QualityGateError("; ".join(missed))


def held_out_texts(path: Path, max_bytes: int | None = None) -> list[str]:
    """Return the texts of a data directory's validation shards, or of a text, jsonl or parquet file."""
    if (path / "valid" / INDEX).is_file():
        tokenizer = Tokenizer.load(path)
        texts = [tokenizer.decode(ids.tolist()) for ids in Shards(path / "valid").documents()]
    else:
        texts = [document.text for document in read_documents([path]) if document.messages is None]
    texts = [text for text in texts if text.strip()]
    kept: list[str] = []
    size = 0
    for text in texts:
        size += len(text.encode())
        if max_bytes is not None and size > max_bytes and kept:
            break
        kept.append(text)
    if not kept:
        raise UsageError(f"{path} holds no held-out text")
    return kept


def stage_for(inputs: Mapping[str, Path]) -> Stage:
    """Return the stage for what there is to measure with: questions, held-out text, or both."""
    if not {"tasks", "tokens"} & set(inputs):
        raise UsageError("eval needs something to measure with: questions (tasks), held-out text (tokens), or both")
    return replace(EVAL, inputs={name: KINDS[name] for name in inputs})


def _baselines(config: EvalConfig, llm: Reader, tokens: Path, texts: list[str]) -> dict[str, float]:
    prepared = (tokens / "train" / INDEX).is_file()
    tokenizer = Tokenizer.load(tokens) if prepared else llm.tokenizer
    assert tokenizer is not None
    held = Held(texts, tokenizer, tokens / "train" if prepared else None)
    return {name: BASELINES[name](held) for name in config.baselines}


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in ("held_out.jsonl", "tasks.jsonl", "test.jsonl"):
        if (path / name).is_file():
            return path / name
    raise UsageError(f"{path} holds no held_out.jsonl, tasks.jsonl or test.jsonl")


EVAL = Stage("eval", "scores", EvalConfig, run_eval, KINDS)
