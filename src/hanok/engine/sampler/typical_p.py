"""Locally typical sampling."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from hanok.engine.sampler import SAMPLERS


@SAMPLERS.register("typical_p", paper="Meister et al. 2022, arXiv 2202.00666")
class TypicalP:
    """Keep tokens whose surprise is nearest to the entropy, until their probability reaches p; ties stay."""

    order: ClassVar[int] = 4
    off: ClassVar[float] = 1.0

    @staticmethod
    def apply(logits_NV: Tensor, value_N1: Tensor) -> Tensor:
        logs = logits_NV.log_softmax(-1)
        share = logs.exp()
        entropy = -(share * logs.clamp(min=-1e300)).sum(-1, keepdim=True)
        distance = (-logs - entropy).abs()
        ordered, ids = distance.sort(dim=-1, stable=True)
        total = share.gather(-1, ids).cumsum(-1)
        last = (total < value_N1).sum(-1, keepdim=True).clamp(max=logits_NV.shape[-1] - 1)
        return logits_NV.masked_fill(distance > ordered.gather(-1, last), float("-inf"))
