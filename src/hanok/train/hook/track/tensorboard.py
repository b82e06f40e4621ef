"""TensorBoard: event files in the run's folder, read with `tensorboard --logdir RUNS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanok.core.errors import require
from hanok.train.hook.track import TRACKERS
from hanok.train.hook.track.base import Tracked


@TRACKERS.register("tensorboard")
class TensorBoard:
    """Scalars in `tensorboard/` of the run's folder; nothing leaves the machine."""

    def __init__(self) -> None:
        require("tensorboard", extra="tensorboard")
        self._writer: Any = None

    def open(self, run: Tracked) -> None:
        """Open a new event file; it tells TensorBoard to forget what older ones say of later steps."""
        from torch.utils.tensorboard import SummaryWriter

        again = run.step + 1 if run.step else None
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=again, flush_secs=10)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush the file."""
        self._writer.close()
