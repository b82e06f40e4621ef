"""What the likeliest answer leaves."""

from __future__ import annotations

from torch import Tensor

from hanok.train.uncertainty import UNCERTAINTIES


@UNCERTAINTIES.register("confidence", paper="arXiv:cmp-lg/9407020")
class Confidence:
    """One minus the largest probability: 1 - max_v p_v. Lewis and Gale 1994."""

    needs_targets = False

    def __call__(self, logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        """Return the uncertainty (N,) of each prediction."""
        return 1 - logits_NV.softmax(-1).amax(-1)
