"""How much of the machine a run uses: FLOPs of the model per second, as a share of the matrix products it can do."""

from __future__ import annotations

from hanok.train.hook import Hook, Record
from hanok.train.state import TrainState


class Utilisation(Hook):
    """Adds `mfu`: tokens per second times the FLOPs of a token, over the peak (FLOP/s of all ranks together).

    FLOPs are the model's own, forward and backward (Chowdhery et al. 2022, PaLM, appendix B); what activation
    checkpointing computes again counts for nothing.
    """

    def __init__(self, flops_per_token: float, peak: float) -> None:
        self.flops_per_token, self.peak = flops_per_token, peak

    def after_step(self, state: TrainState, record: Record) -> None:
        """Add the figure."""
        record["mfu"] = record["tokens_per_second"] * self.flops_per_token / self.peak
