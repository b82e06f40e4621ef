"""Keep the k most likely tokens."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from hanok.engine.sampler import SAMPLERS


@SAMPLERS.register("top_k", paper="Fan et al. 2018, arXiv 1805.04833")
class TopK:
    """Keep the k most likely tokens, and those that tie with the last of them."""

    order: ClassVar[int] = 1
    off: ClassVar[float] = 0

    @staticmethod
    def apply(logits_NV: Tensor, value_N1: Tensor) -> Tensor:
        k = value_N1.long().clamp(max=logits_NV.shape[-1])
        best = logits_NV.topk(int(k.max()), dim=-1).values
        return logits_NV.masked_fill(logits_NV < best.gather(-1, k - 1), float("-inf"))
