"""The gated feed-forward network of GPT-OSS, whose gate and values are kept within bounds."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
from torch import Tensor

from hanok.nn.ffn import FFNS
from hanok.nn.ffn.base import Gated, GatedConfig
from hanok.ops.numerics import elementwise


@FFNS.register("swiglu_clamped", paper="OpenAI 2025, arXiv 2508.10925")
class ClampedSwiGLU(Gated):
    """down(g sigmoid(alpha g) * (u + 1)) with g = min(gate(x), limit) and u = up(x) within [-limit, limit]."""

    class Config(GatedConfig):
        """`alpha` is the slope of the gate's sigmoid, `limit` the bound."""

        kind: Literal["swiglu_clamped"] = "swiglu_clamped"
        alpha: float = pydantic.Field(default=1.702, gt=0)
        limit: float = pydantic.Field(default=7.0, gt=0)

    config: Config

    def gating(self, gate: Tensor, up: Tensor) -> Tensor:
        gate = gate.clamp(max=self.config.limit)
        up = up.clamp(-self.config.limit, self.config.limit)
        return gate * elementwise(torch.sigmoid, self.config.alpha * gate) * (up + 1)
