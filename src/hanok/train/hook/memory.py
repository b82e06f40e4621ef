"""How much memory a run needs."""

from __future__ import annotations

import sys

import torch

from hanok.train.hook import Hook, Record
from hanok.train.state import TrainState


class Memory(Hook):
    """Adds `memory_bytes`: the most that this process has held so far.

    On CUDA what tensors took of the device (`max_memory_allocated`); elsewhere the peak resident set of the process,
    Python and libraries included, where the system tells it.
    """

    def after_step(self, state: TrainState, record: Record) -> None:
        """Add the figure."""
        held = peak_bytes(state.optimizer.parameters[0].device)
        if held:
            record["memory_bytes"] = held


def peak_bytes(device: torch.device) -> int:
    """Return the peak so far in bytes, or 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux and the BSDs count in KiB
