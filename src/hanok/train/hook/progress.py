"""The console line of a run."""

from __future__ import annotations

from collections.abc import Sequence

from hanok.core.log import Log
from hanok.train.hook import Hook, Record
from hanok.train.state import TrainState

SHORT = {"rewards/margins": "margin", "rewards/accuracies": "acc", "reward": "reward", "mean_token_accuracy": "tok acc"}


class Progress(Hook):
    """One live line: step, loss, learning-rate factor, gradient norm, speed, time gone and to go."""

    def __init__(self, log: Log, title: str, *, show: Sequence[str] = ()) -> None:
        self.log, self.title, self.show = log, title, show
        self._loss: float | None = None

    def after_step(self, state: TrainState, record: Record) -> None:
        """Show the line, with the loss smoothed over about ten steps."""
        if record["loss"] == record["loss"]:
            self._loss = record["loss"] if self._loss is None else 0.9 * self._loss + 0.1 * record["loss"]
        left = state.seconds / state.step * (state.steps - state.step)
        parts = [
            f"{self.title} step {state.step:05d}/{state.steps:05d} ({100 * state.step / state.steps:.1f}%)",
            f"loss {self._loss if self._loss is not None else float('nan'):.3f}",
            *(f"{SHORT.get(name, name)} {record[name]:.3f}" for name in self.show if name in record),
            f"lrm {record['lr_factor']:.2f}",
            f"gnorm {record['grad_norm']:.2f}",
            f"dt {1000 * record['step_time']:.0f}ms",
            f"tok/s {record['tokens_per_second']:,.0f}",
            f"{clock(state.seconds)}<{clock(left)}",
        ]
        self.log.progress(" | ".join(parts))


def clock(seconds: float) -> str:
    """Return minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
