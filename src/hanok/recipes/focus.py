"""Prompts worth exploring: of the tasks that a model neither has mastered nor never gets right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from hanok.core.config import Config
from hanok.core.log import Log
from hanok.core.stage import Stage
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Request
from hanok.text.task.sets import read_items, read_tasks, to_row, write_jsonl


class FocusConfig(Config):
    """A task is kept if drawn answers to its validation items score between the two bounds, on average."""

    low: float = Field(default=0.05, ge=0, le=1)
    high: float = Field(default=0.95, ge=0, le=1)
    max_tokens: int = Field(default=32, ge=1)


def focus(config: FocusConfig, inputs: dict[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Write prompts.jsonl: a group of completions that are all right, or all wrong, would teach nothing.

    Where no task lies between the bounds, every prompt is kept.
    """
    llm, tasks = LLM.load(inputs["model"]), read_tasks(inputs["tasks"])
    items = read_items(inputs["tasks"] / "valid.jsonl")
    # Drawn at temperature 1, as in training: what matters is how often the answers of a group differ.
    requests = [Request(item.messages(), config.max_tokens, temperature=1.0, seed=at) for at, item in enumerate(items)]
    scores: dict[str, list[float]] = {name: [] for name in tasks}
    for item, output in zip(items, Engine(llm).generate(requests), strict=True):
        scores[item.task].append(tasks[item.task].score(item, output.text))
    accuracy = {name: sum(values) / len(values) for name, values in scores.items() if values}
    kept = sorted(name for name, value in accuracy.items() if config.low <= value <= config.high) or sorted(accuracy)
    prompts = [item for item in read_items(inputs["tasks"] / "prompts.jsonl") if item.task in kept]
    write_jsonl(out / "prompts.jsonl", map(to_row, prompts))
    return {"tasks": ", ".join(kept), "prompts": len(prompts), **{f"valid/{k}": v for k, v in accuracy.items()}}


FOCUS = Stage("focus", "prompts", FocusConfig, focus, {"model": "model", "tasks": "tasks"})
