"""Checkable tasks: short questions whose answer a program knows, with splits that cannot overlap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanok.core.config import PartConfig, spec_type
from hanok.core.registry import Registry
from hanok.text.task.base import Item as Item
from hanok.text.task.base import Task as Task

TASKS: Registry[type[Task]] = Registry("task", __name__)

TaskSpec: Any = spec_type(TASKS)  # a config's field type: "addition" or {"kind": "addition", "digits": [1, 3]}


def make_task(spec: PartConfig | Mapping[str, Any] | str) -> Task:
    """Return the task of a config, a mapping with a `kind`, or a bare word with its default difficulty."""
    if isinstance(spec, PartConfig):
        return TASKS[spec.kind](spec)
    data = {"kind": spec} if isinstance(spec, str) else spec
    task = TASKS[str(data.get("kind"))]
    return task(task.Config.parse(data, where=f"task {data.get('kind')}"))
