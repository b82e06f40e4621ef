"""The stages of this room: `data` makes a tokenizer and token shards, `tasks` makes the sets of checkable items."""

from __future__ import annotations

from hanok.core.stage import Stage
from hanok.text.data.prepare import DataConfig, run_data
from hanok.text.task.sets import TaskSetsConfig, run_task_sets

DATA = Stage(name="data", kind="tokens", config=DataConfig, run=run_data)
TASK_SETS = Stage(name="tasks", kind="tasks", config=TaskSetsConfig, run=run_task_sets)
