"""Entropy of the prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from hanok.train.uncertainty import UNCERTAINTIES


@UNCERTAINTIES.register("entropy", paper="10.1002/j.1538-7305.1948.tb01338.x")
class Entropy:
    """The entropy of the predicted distribution in nats: -sum_v p_v log p_v."""

    needs_targets = False

    def __call__(self, logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        """Return the uncertainty (N,) of each prediction."""
        logp = torch.log_softmax(logits_NV, -1)
        # A token of probability 0 adds nothing, but 0 times minus infinity is not a number.
        return -(logp.exp() * logp.clamp_min(torch.finfo(logp.dtype).min)).sum(-1)
