"""The gap between the two likeliest answers."""

from __future__ import annotations

from torch import Tensor

from hanok.train.uncertainty import UNCERTAINTIES


@UNCERTAINTIES.register("margin", paper="10.1007/3-540-44816-0_31")
class Margin:
    """One minus the gap between the two largest probabilities: 1 - (p_1 - p_2). Scheffer et al. 2001."""

    needs_targets = False

    def __call__(self, logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        """Return the uncertainty (N,) of each prediction."""
        top = logits_NV.softmax(-1).topk(2, -1).values
        return 1 - (top[:, 0] - top[:, 1])
