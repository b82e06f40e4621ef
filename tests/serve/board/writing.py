"""Runs as the training loop writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ALL = 40


def record(step: int, **values: Any) -> dict[str, Any]:
    """A record of pre-training."""
    return {
        "step": step,
        "train/loss": 5.0 - step / 20,
        "train/grad_norm": 1.0,
        "train/lr": 0.01,
        "train/dt": 0.05,
        "train/tok_per_sec": 20_000.0,
        "train/skipped": 0,
        "num_tokens": 1024 * step,
        "total_training_time": 0.05 * step,
        "mfu": 0.4,
        "memory_bytes": 3 << 29,
        "max_steps": ALL,
        **values,
    }


def line(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def write(folder: Path, first: int, last: int, *, name: str = "metrics.jsonl") -> Path:
    """Append records of the steps from `first` to `last`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a", encoding="utf-8") as file:
        file.writelines(line(record(step)) for step in range(first, last + 1))
    return folder
