"""Cross-attention: queries from the decoder, keys and values from what the encoder read."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.context import Context, Made
from hanok.nn.cross import CROSSES
from hanok.nn.linear import Linear
from hanok.ops.attention import scored_attention
from hanok.ops.cross import exact_cross_attention
from hanok.ops.numerics import current


@CROSSES.register("attention", paper="Vaswani et al. 2017, arXiv 1706.03762, section 3.2.3")
class CrossAttention(nn.Module):
    """Multi-head attention over an encoder's states: softmax(q k^T * scale) v, every token of the source seen."""

    class Config(PartConfig):
        """`head_dim` defaults to dim / heads, `scale` to 1 / sqrt(head_dim); T5 uses 1."""

        kind: Literal["attention"] = "attention"
        heads: int = pydantic.Field(gt=0)
        kv_heads: int | None = pydantic.Field(default=None, gt=0)
        head_dim: int | None = pydantic.Field(default=None, gt=0)
        scale: float | None = pydantic.Field(default=None, gt=0)
        bias: Literal["none", "all"] = "none"

        def resolve(self, dim: int) -> CrossAttention.Config:
            head_dim = self.head_dim or dim // self.heads
            sizes = {"kv_heads": self.kv_heads or self.heads, "head_dim": head_dim}
            return self.model_copy(update=sizes | {"scale": self.scale or head_dim**-0.5})

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        config = config.resolve(dim)
        assert config.kv_heads and config.head_dim and config.scale
        if config.heads % config.kv_heads:
            raise ValueError(f"attention: heads ({config.heads}) must be a multiple of kv_heads ({config.kv_heads})")
        self.config, self.layer, self.scale = config, layer, config.scale
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        bias = config.bias == "all"
        self.q = Linear(dim, self.heads * self.head_dim, bias=bias)
        self.k = Linear(dim, self.kv_heads * self.head_dim, bias=bias)
        self.v = Linear(dim, self.kv_heads * self.head_dim, bias=bias)
        self.o = Linear(self.heads * self.head_dim, dim, bias=bias)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        out: Tensor = self.o(ctx.look(self.layer, x, self._make, self._read))
        return out

    def _make(self, states: Tensor) -> Made:
        return tuple(part(states).unflatten(-1, (self.kv_heads, self.head_dim)) for part in (self.k, self.v))

    def _read(self, x: Tensor, positions: Tensor, made: Made, seen: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (self.heads, self.head_dim))
        if current() == "exact":
            return exact_cross_attention(q, made[0], made[1], (seen, positions), self.scale).flatten(-2)
        see = seen[:, None].expand(-1, q.shape[1], -1)
        apart = torch.zeros_like(see, dtype=torch.int64)
        return scored_attention((q, made[0], made[1]), apart, see, self.scale).flatten(-2)
