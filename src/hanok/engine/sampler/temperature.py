"""Flatten or sharpen the distribution."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from hanok.engine.sampler import SAMPLERS


@SAMPLERS.register("temperature")
class Temperature:
    """Divide logits by the temperature: below 1 sharpens, above 1 flattens; 0 is greedy and never comes here."""

    order: ClassVar[int] = 0
    off: ClassVar[float] = 1.0

    @staticmethod
    def apply(logits_NV: Tensor, value_N1: Tensor) -> Tensor:
        # The largest becomes 0 first, so that a tiny temperature gives -inf and 0, never inf - inf.
        return (logits_NV - logits_NV.amax(-1, keepdim=True)) / value_N1
