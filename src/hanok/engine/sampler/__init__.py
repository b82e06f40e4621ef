"""Samplers: each turns a row of logits into a narrower or flatter one; a request names its strength, `off` means none.

They act in the order temperature, top-k, top-p, min-p, typical-p (each file's `order`), each on what the one before
left.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor

from hanok.core.registry import Registry


class Sampler(Protocol):
    """A filter of logits (N,V) float64 by one value per row (N,1); removed tokens become -inf."""

    order: ClassVar[int]
    off: ClassVar[float]

    @staticmethod
    def apply(logits_NV: Tensor, value_N1: Tensor) -> Tensor: ...


SAMPLERS: Registry[type[Sampler]] = Registry("sampler", __name__)
