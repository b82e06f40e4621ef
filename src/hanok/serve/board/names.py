"""One name for each figure, whichever names a run writes it under."""

from __future__ import annotations

from typing import Any

# The names of pre-training (nanochat's) and those of everything else (TRL's).
NAMES = {
    "train/loss": "loss",
    "train/lr": "learning_rate",
    "train/lrm": "lr_factor",
    "train/grad_norm": "grad_norm",
    "train/dt": "step_time",
    "train/tok_per_sec": "tokens_per_second",
    "train/token_accuracy": "mean_token_accuracy",
    "total_training_time": "seconds",
    "train/skipped": "skipped",
}


def figures(record: dict[str, Any]) -> dict[str, float | None] | None:
    """Return a record's numbers under one set of names, or None where it has no step; other values are left out."""
    step = record.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        return None
    named = {NAMES.get(name, name): value for name, value in record.items() if name != "global_step"}
    return {name: value for name, value in named.items() if value is None or type(value) in (int, float)}
