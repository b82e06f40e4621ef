"""Surprise by what really follows."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from hanok.train.uncertainty import UNCERTAINTIES


@UNCERTAINTIES.register("loss")
class Loss:
    """The loss -log p(target) in nats: for documents and answered questions, whose targets are known."""

    needs_targets = True

    def __call__(self, logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        """Return the uncertainty (N,) of each prediction."""
        return F.cross_entropy(logits_NV, targets_N, reduction="none")
