"""Four bits per weight in groups of 32 inputs, one scale per group, rounded to the nearest."""

from __future__ import annotations

from typing import Literal

from hanok.compress.quantize import QUANTIZERS
from hanok.core.config import PartConfig
from hanok.nn.linear import Linear


@QUANTIZERS.register("int4", paper="https://arxiv.org/abs/2212.09720")
class Int4:
    """W = scale * (q - 8), q in 0 .. 15, with the largest weight of 32 on the farthest level: 4.5 bits per weight."""

    class Config(PartConfig):
        kind: Literal["int4"] = "int4"

    def __init__(self, config: Config) -> None:
        self.config = config

    def pack(self, linear: Linear) -> Linear:
        return linear.pack("int4")
