"""The task stage: conversations, preferences and prompts to train on, and items that no stage ever sees."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from hanok.core.artifact import atomic_write
from hanok.core.config import Config
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.rng import derive
from hanok.text.task import Item, Task, TaskSpec, make_task

FILES = ("conversations", "preferences", "prompts", "valid", "held_out")


class TaskSetsConfig(Config):
    """Which tasks, and how many items of each go into each file.

    `careless` is the share of wrong answers among a task's conversations: demonstrations by somebody who errs, which
    imitation copies and a reward does not.
    """

    tasks: tuple[TaskSpec, ...] = ("addition", "copy", "reversal", "json_extract", "josa")
    conversations: int = Field(default=2000, ge=1)
    preferences: int = Field(default=400, ge=1)
    prompts: int = Field(default=400, ge=1)
    valid: int = Field(default=50, ge=1)
    held_out: int = Field(default=200, ge=1)
    careless: dict[str, float] = {}
    seed: int = 0

    @model_validator(mode="after")
    def _known(self) -> Self:
        kinds = [make_task(spec).config.kind for spec in self.tasks]
        for kind, share in self.careless.items():
            if kind not in kinds or not 0 <= share < 1:
                raise ValueError(f"careless: {kind!r} must be one of the tasks {kinds}, its share in [0, 1)")
        return self


def run_task_sets(config: TaskSetsConfig, inputs: dict[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Write the five files and `tasks.json` (each task's configuration and chance); return what was counted."""
    tasks = [make_task(spec) for spec in config.tasks]
    if not tasks:
        raise UsageError("tasks is empty: name at least one task")
    log.progress(f"making items of {len(tasks)} tasks")
    made = {name: _make(tasks, name, getattr(config, name), config.seed) for name in FILES}
    secret = {(item.task, item.key) for item in made["held_out"]}
    for name in FILES[:-1]:
        assert not secret & {(item.task, item.key) for item in made[name]}, f"{name} holds held-out items"
    known = {task.config.kind: task for task in tasks}
    rng = random.Random(derive(config.seed, "wrong answers"))
    write_jsonl(
        out / "conversations.jsonl",
        (_demonstration(known[item.task], item, config, rng) for item in made["conversations"]),
    )
    write_jsonl(out / "preferences.jsonl", (_preference(known[item.task], item, rng) for item in made["preferences"]))
    for name in FILES[2:]:
        write_jsonl(out / f"{name}.jsonl", ({**to_row(i), "chance": known[i.task].chance} for i in made[name]))
    facts = {kind: {"config": task.config.to_dict(), "chance": task.chance} for kind, task in known.items()}
    atomic_write(out / "tasks.json", json.dumps(facts, indent=2) + "\n")
    return {**{name: len(items) for name, items in made.items()}, **{f"chance/{k}": t.chance for k, t in known.items()}}


def to_row(item: Item) -> dict[str, Any]:
    """Return an item as a row: a prompt of messages, the answer, and what the reward needs."""
    return {"prompt": item.messages(), "answer": item.answer, "task": item.task, "key": item.key}


def read_items(path: str | Path) -> list[Item]:
    """Read the items of `prompts.jsonl`, `valid.jsonl` or `held_out.jsonl`."""
    items = []
    # JSON lines end at \n alone: other separators, such as U+2028, may stand inside a string.
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n"), 1):
        try:
            row = json.loads(line)
            items.append(Item(row["prompt"][-1]["content"], row["answer"], row["task"], row.get("key", "")))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise UsageError(f"{path}, line {number}: a task item needs prompt, answer and task ({error!r})") from None
    return items


def read_tasks(path: str | Path) -> dict[str, Task]:
    """Return the tasks of a `tasks` artifact by name, as hard as they were when its items were made."""
    file = Path(path) / "tasks.json"
    if not file.is_file():
        raise UsageError(f"{path} holds no tasks.json: it is no folder of task items")
    facts = json.loads(file.read_text(encoding="utf-8"))
    return {kind: make_task({"kind": kind, **fact["config"]}) for kind, fact in facts.items()}


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines, whole or not at all."""
    atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _make(tasks: Sequence[Task], name: str, n: int, seed: int) -> list[Item]:
    split = name if name in ("valid", "held_out") else "train"
    items = [item for task in tasks for item in task.items(split, n, derive(seed, name))]  # type: ignore[arg-type]
    random.Random(derive(seed, f"order of {name}")).shuffle(items)
    return items


def _demonstration(task: Task, item: Item, config: TaskSetsConfig, rng: random.Random) -> dict[str, Any]:
    share = config.careless.get(item.task, 0.0)
    answer = task.wrong(item, rng) if share and rng.random() < share else item.answer
    return {"messages": item.messages(answer), "task": item.task}


def _preference(task: Task, item: Item, rng: random.Random) -> dict[str, Any]:
    wrong = task.wrong(item, rng)
    assert task.score(item, wrong) < task.score(item, item.answer), (item, wrong)
    return {
        "prompt": item.messages(),
        "chosen": item.messages(item.answer)[1:],
        "rejected": item.messages(wrong)[1:],
        "task": item.task,
    }
