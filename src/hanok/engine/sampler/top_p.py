"""Nucleus sampling."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from hanok.engine.sampler import SAMPLERS


@SAMPLERS.register("top_p", paper="Holtzman et al. 2020, arXiv 1904.09751")
class TopP:
    """Keep the smallest set of most likely tokens whose probability reaches p; equal ones go by their id."""

    order: ClassVar[int] = 2
    off: ClassVar[float] = 1.0

    @staticmethod
    def apply(logits_NV: Tensor, value_N1: Tensor) -> Tensor:
        ordered, ids = logits_NV.sort(dim=-1, descending=True, stable=True)
        share = ordered.softmax(-1)
        before = share.cumsum(-1) - share
        drop = before >= value_N1
        drop[:, 0] = False
        return logits_NV.masked_fill(drop.new_zeros(drop.shape).scatter_(-1, ids, drop), float("-inf"))
