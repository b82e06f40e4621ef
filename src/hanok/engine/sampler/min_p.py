"""Keep tokens that are not much less likely than the best."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from hanok.engine.sampler import SAMPLERS


@SAMPLERS.register("min_p", paper="Nguyen et al. 2024, arXiv 2407.01082")
class MinP:
    """Keep tokens whose probability is at least min_p times that of the most likely one."""

    order: ClassVar[int] = 3
    off: ClassVar[float] = 0.0

    @staticmethod
    def apply(logits_NV: Tensor, value_N1: Tensor) -> Tensor:
        floor = logits_NV.amax(-1, keepdim=True) + value_N1.log()
        return logits_NV.masked_fill(logits_NV < floor, float("-inf"))
