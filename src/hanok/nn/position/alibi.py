"""Attention with linear biases: scores fall with distance, each head at its own rate."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
from torch import Tensor

from hanok.core.config import PartConfig
from hanok.nn.position import POSITIONS
from hanok.nn.position.base import Position
from hanok.ops.attention import Bias


@POSITIONS.register("alibi", paper="Press et al. 2021, arXiv 2108.12409")
class ALiBi(Position):
    """Subtract slope * distance from the scores of each head; nothing is learned and nothing is added elsewhere.

    distance (...) -> -scale * slope (H,) * |distance| as (H, ...); slope i of n heads is 2^(-steepest * i / n).
    """

    class Config(PartConfig):
        """`steepest` is the exponent of the last head (MPT's `alibi_bias_max`); `scale` multiplies all slopes.

        Falcon adds its biases before the scores are divided by sqrt(head_dim): its `scale` is head_dim^-0.5.
        """

        kind: Literal["alibi"] = "alibi"
        steepest: float = pydantic.Field(default=8.0, gt=0)
        scale: float = pydantic.Field(default=1.0, gt=0)

    def __init__(self, config: Config, width: int, heads: int = 1) -> None:
        super().__init__()
        self.slopes = [config.scale * slope for slope in slopes(heads, config.steepest)]

    def bias(self) -> Bias:
        return self._fall

    def _fall(self, distance: Tensor) -> Tensor:
        slope = torch.tensor(self.slopes, device=distance.device).view(-1, *[1] * distance.dim())
        return -slope * distance.abs()


def slopes(heads: int, steepest: float = 8.0) -> list[float]:
    """Return the slope of each head: a geometric sequence over the next power of two P >= heads.

    With fewer heads than P, every second member comes first, then the members between them (the authors' code).
    """
    whole = 1 << (heads - 1).bit_length()
    sequence = [2.0 ** (-steepest * i / whole) for i in range(1, whole + 1)]
    return sequence if heads == whole else (sequence[1::2] + sequence[::2])[:heads]
