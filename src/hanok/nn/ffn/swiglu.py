"""The gated feed-forward network of LLaMA."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch.nn.functional as F
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.ffn import FFNS
from hanok.nn.linear import Linear
from hanok.ops.numerics import elementwise


@FFNS.register("swiglu", paper="Shazeer 2020, arXiv 2002.05202")
class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)): a linear layer gated by another."""

    class Config(PartConfig):
        """`hidden` is the inner width; by default 8/3 of the model's, rounded up to a multiple of 32."""

        kind: Literal["swiglu"] = "swiglu"
        hidden: int | None = pydantic.Field(default=None, gt=0)
        bias: Literal["none", "all"] = "none"

        def resolve(self, dim: int) -> SwiGLU.Config:
            return self.model_copy(update={"hidden": self.hidden or -(-dim * 8 // 3 // 32) * 32})

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__()
        hidden = config.resolve(dim).hidden
        assert hidden
        bias = config.bias == "all"
        self.gate = Linear(dim, hidden, bias=bias)
        self.up = Linear(dim, hidden, bias=bias)
        self.down = Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(elementwise(F.silu, self.gate(x)) * self.up(x))
        return out
