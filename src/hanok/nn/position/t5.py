"""Relative position biases: a learned number for each head and bucket of distances."""

from __future__ import annotations

import math
from typing import Literal, Self

import pydantic
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.position import POSITIONS
from hanok.nn.position.base import Position
from hanok.ops.attention import Bias


@POSITIONS.register("t5", paper="Raffel et al. 2019, arXiv 1910.10683")
class T5Bias(Position):
    """Add weight[bucket(distance), head] to scores; small distances have buckets of their own, larger ones share.

    distance (...) -> (H, ...). Half of the n buckets of one direction are exact, the others grow geometrically up to
    `reach`, where the last one begins: n/2 + floor(ln(d / (n/2)) / ln(reach / (n/2)) * n/2).
    """

    shared = True

    class Config(PartConfig):
        """`buckets` in all; with `see` all (an encoder) half of them are for keys that come later."""

        kind: Literal["t5"] = "t5"
        buckets: int = pydantic.Field(default=32, gt=0)
        reach: int = pydantic.Field(default=128, gt=0)
        see: Literal["past", "all"] = "past"

        @pydantic.model_validator(mode="after")
        def _check(self) -> Self:
            directions = 2 if self.see == "all" else 1
            if self.buckets % (2 * directions):
                raise ValueError(f"t5: buckets ({self.buckets}) must be a multiple of {2 * directions}")
            if self.reach <= self.buckets // directions // 2:
                raise ValueError(f"t5: reach ({self.reach}) must be more than the exact buckets of a direction")
            return self

    def __init__(self, config: Config, width: int, heads: int = 1) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.buckets, heads))
        self._bucket: dict[torch.device, Tensor] = {}

    def reset(self, generator: torch.Generator) -> None:
        """Draw the table with deviation 0.1, small beside scores of size 1."""
        with torch.no_grad():
            self.weight.copy_(torch.empty(self.weight.shape).normal_(0.0, 0.1, generator=generator))

    def bias(self) -> Bias:
        return self._look_up

    def _look_up(self, distance: Tensor) -> Tensor:
        return F.embedding(self.bucket(distance), self.weight).movedim(-1, 0)

    def bucket(self, distance: Tensor) -> Tensor:
        """Return the bucket of each distance (query minus key position)."""
        if distance.device not in self._bucket:
            self._bucket[distance.device] = self._buckets().to(distance.device)
        one_way = self._bucket[distance.device]
        if self.config.see == "past":
            return one_way[distance.clamp(0, self.config.reach)]
        later = (distance < 0).long() * (self.config.buckets // 2)
        return one_way[distance.abs().clamp(max=self.config.reach)] + later

    def _buckets(self) -> Tensor:
        """Return the bucket of each distance from 0 to `reach` in one direction, with float32 logarithms like T5."""
        buckets = self.config.buckets // 2 if self.config.see == "all" else self.config.buckets
        exact = buckets // 2
        distance = torch.arange(self.config.reach + 1, device="cpu")
        grown = torch.log(distance.float() / exact) / math.log(self.config.reach / exact) * (buckets - exact)
        far = (exact + grown.clamp(min=0).long()).clamp(max=buckets - 1)
        return torch.where(distance < exact, distance, far)
