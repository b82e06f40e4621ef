"""Sixteen bits per weight: bfloat16, rounded to the nearest."""

from __future__ import annotations

from typing import Literal

from hanok.compress.quantize import QUANTIZERS
from hanok.core.config import PartConfig
from hanok.nn.linear import Linear


@QUANTIZERS.register("bf16", paper="https://arxiv.org/abs/1905.12322")
class Bf16:
    """The exponent of float32 and 8 bits of the rest: each weight moves by at most 1 / 256 of itself."""

    class Config(PartConfig):
        kind: Literal["bf16"] = "bf16"

    def __init__(self, config: Config) -> None:
        self.config = config

    def pack(self, linear: Linear) -> Linear:
        return linear.pack("bf16")
