"""Eight bits per weight, symmetric, one scale per output, rounded to the nearest."""

from __future__ import annotations

from typing import Literal

from hanok.compress.quantize import QUANTIZERS
from hanok.core.config import PartConfig
from hanok.nn.linear import Linear


@QUANTIZERS.register("int8", paper="https://arxiv.org/abs/2208.07339")
class Int8:
    """W = scale * int8 with scale = max|row| / 127: each weight moves by at most half a scale."""

    class Config(PartConfig):
        kind: Literal["int8"] = "int8"

    def __init__(self, config: Config) -> None:
        self.config = config

    def pack(self, linear: Linear) -> Linear:
        return linear.pack("int8")
