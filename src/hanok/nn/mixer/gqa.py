"""Grouped-query attention, of which multi-head and multi-query attention are the two ends."""

from __future__ import annotations

from typing import Literal

import pydantic
from torch import Tensor, nn

from hanok.core.config import PartConfig, spec_type
from hanok.nn.context import Context, PerToken
from hanok.nn.linear import Linear
from hanok.nn.mixer import MIXERS
from hanok.nn.position import POSITIONS
from hanok.nn.position.rope import RoPE


@MIXERS.register("gqa", paper="Ainslie et al. 2023, arXiv 2305.13245")
class GQA(nn.Module):
    """Softmax attention in which groups of query heads share a key and value head.

    kv_heads == heads is multi-head attention, kv_heads == 1 is multi-query attention; `window` is sliding-window
    attention (Beltagy et al. 2020, arXiv 2004.05150). softmax(q k^T / sqrt(head_dim)) v, causal.
    """

    class Config(PartConfig):
        """`kv_heads` defaults to `heads`, `head_dim` to dim / heads."""

        kind: Literal["gqa"] = "gqa"
        heads: int = pydantic.Field(gt=0)
        kv_heads: int | None = pydantic.Field(default=None, gt=0)
        head_dim: int | None = pydantic.Field(default=None, gt=0)
        window: int | None = pydantic.Field(default=None, gt=0)
        position: spec_type(POSITIONS) = RoPE.Config()  # type: ignore[valid-type]
        bias: Literal["none", "qkv", "all"] = "none"

        def resolve(self, dim: int) -> GQA.Config:
            kv_heads = self.kv_heads or self.heads
            if self.heads % kv_heads:
                raise ValueError(f"gqa: heads ({self.heads}) must be a multiple of kv_heads ({kv_heads})")
            if self.head_dim is None and dim % self.heads:
                raise ValueError(f"gqa: dim ({dim}) must be a multiple of heads ({self.heads}), or give head_dim")
            return self.model_copy(update={"kv_heads": kv_heads, "head_dim": self.head_dim or dim // self.heads})

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        config = config.resolve(dim)
        assert config.kv_heads and config.head_dim
        self.config, self.layer = config, layer
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.q = Linear(dim, self.heads * self.head_dim, bias=config.bias != "none")
        self.k = Linear(dim, self.kv_heads * self.head_dim, bias=config.bias != "none")
        self.v = Linear(dim, self.kv_heads * self.head_dim, bias=config.bias != "none")
        self.o = Linear(self.heads * self.head_dim, dim, bias=config.bias == "all")
        self.position = POSITIONS[config.position.kind](config.position, self.head_dim)

    def memory(self) -> PerToken:
        return PerToken(self.kv_heads, self.head_dim, self.head_dim)

    def mixing_flops(self, past: int) -> int:
        """Return the FLOPs that one token spends on scores and values over `past` tokens."""
        seen = min(past, self.config.window or past)
        return 4 * self.heads * self.head_dim * seen

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        q = self.q(x).unflatten(-1, (self.heads, self.head_dim))
        k = self.k(x).unflatten(-1, (self.kv_heads, self.head_dim))
        v = self.v(x).unflatten(-1, (self.kv_heads, self.head_dim))
        q, k = self.position(q, k, ctx.positions)
        y = ctx.attend(self.layer, q, k, v, scale=self.head_dim**-0.5, window=self.config.window)
        out: Tensor = self.o(y.flatten(-2))
        return out
