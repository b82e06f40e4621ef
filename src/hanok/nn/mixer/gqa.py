"""Grouped-query attention, of which multi-head and multi-query attention are the two ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pydantic
import torch
from torch import Tensor, nn

from hanok.core.config import PartConfig, optional_spec, spec_type
from hanok.nn.context import Context, PerToken
from hanok.nn.experts import Product
from hanok.nn.linear import Linear
from hanok.nn.mixer import MIXERS
from hanok.nn.norm import NORMS
from hanok.nn.position import POSITIONS
from hanok.nn.position.rope import RoPE
from hanok.ops.attention import Scoring
from hanok.ops.numerics import elementwise


@MIXERS.register("gqa", paper="Ainslie et al. 2023, arXiv 2305.13245")
class GQA(nn.Module):
    """Softmax attention in which groups of query heads share a key and value head.

    kv_heads == heads is multi-head attention, kv_heads == 1 is multi-query attention; `window` is sliding-window
    attention (Beltagy et al. 2020, arXiv 2004.05150). softmax(q k^T / sqrt(head_dim)) v, causal.
    """

    class Config(PartConfig):
        """`kv_heads` defaults to `heads`, `head_dim` to dim / heads, `scale` to 1 / sqrt(head_dim).

        `qk_norm` normalises queries and keys before positions, head by head or over the whole projection
        (Henry et al. 2020, arXiv 2010.04245), `qk_gain` each multiplies them by gains of each head's own (Command R);
        `softcap` bounds scores (Gemma 2); `sinks` are learned scores, one per head, of a key that has no value (Xiao et
        al. 2023, arXiv 2309.17453); `see` all makes an encoder's layer.
        `gate` sigmoid multiplies what each head read by the sigmoid of as many numbers, which q holds behind the head's
        query (Qiu et al. 2025, arXiv 2505.06708); `out` is the width of what comes out (default: of what goes in).
        """

        kind: Literal["gqa"] = "gqa"
        heads: int = pydantic.Field(gt=0)
        kv_heads: int | None = pydantic.Field(default=None, gt=0)
        head_dim: int | None = pydantic.Field(default=None, gt=0)
        window: int | None = pydantic.Field(default=None, gt=0)
        position: spec_type(POSITIONS) = RoPE.Config()  # type: ignore[valid-type]
        bias: Literal["none", "qkv", "all"] = "none"
        qk_norm: optional_spec(NORMS) = None  # type: ignore[valid-type]
        qk_norm_over: Literal["head", "projection"] = "head"
        qk_gain: Literal["none", "each"] = "none"
        scale: float | None = pydantic.Field(default=None, gt=0)
        softcap: float | None = pydantic.Field(default=None, gt=0)
        sinks: Literal["none", "learned"] = "none"
        see: Literal["past", "all"] = "past"
        gate: Literal["none", "sigmoid"] = "none"
        out: int | None = pydantic.Field(default=None, gt=0)

        def resolve(self, dim: int) -> GQA.Config:
            kv_heads = self.kv_heads or self.heads
            if self.heads % kv_heads:
                raise ValueError(f"gqa: heads ({self.heads}) must be a multiple of kv_heads ({kv_heads})")
            if self.head_dim is None and dim % self.heads:
                raise ValueError(f"gqa: dim ({dim}) must be a multiple of heads ({self.heads}), or give head_dim")
            head_dim = self.head_dim or dim // self.heads
            sizes = {"kv_heads": kv_heads, "head_dim": head_dim, "scale": self.scale or head_dim**-0.5}
            return self.model_copy(update=sizes)

    products = ("q", "k", "v", "o")

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        config = config.resolve(dim)
        assert config.kv_heads and config.head_dim
        self.config, self.layer = config, layer
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        queries = self.heads * self.head_dim * (2 if config.gate == "sigmoid" else 1)
        self.q = Linear(dim, queries, bias=config.bias != "none")
        self.k = Linear(dim, self.kv_heads * self.head_dim, bias=config.bias != "none")
        self.v = Linear(dim, self.kv_heads * self.head_dim, bias=config.bias != "none")
        self.o = Linear(self.heads * self.head_dim, config.out or dim, bias=config.bias == "all")
        self.position = POSITIONS[config.position.kind](config.position, self.head_dim, self.heads)
        self.q_norm, self.k_norm = (self._norm(config.qk_norm, heads) for heads in (self.heads, self.kv_heads))
        gains = config.qk_gain == "each"
        self.q_gain = nn.Parameter(torch.ones(self.heads, self.head_dim)) if gains else None
        self.k_gain = nn.Parameter(torch.ones(self.kv_heads, self.head_dim)) if gains else None
        self.sinks = nn.Parameter(torch.empty(self.heads)) if config.sinks == "learned" else None

    def _norm(self, norm: PartConfig | None, heads: int) -> nn.Module | None:
        width = self.head_dim if self.config.qk_norm_over == "head" else self.head_dim * heads
        return None if norm is None else NORMS[norm.kind](norm, width)

    def reset(self, generator: torch.Generator) -> None:
        """Start sinks at 0: beside a score of average size."""
        if self.sinks is not None:
            nn.init.zeros_(self.sinks)

    def memory(self) -> PerToken:
        return PerToken(self.kv_heads, self.head_dim, self.head_dim, window=self.config.window)

    def mixing_flops(self, past: int) -> int:
        """Return the FLOPs that one token spends on scores and values over `past` tokens."""
        seen = min(past, self.config.window or past)
        return 4 * self.heads * self.head_dim * seen

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        return self.formula(x, ctx, (self.q, self.k, self.v, self.o))

    def formula(self, x: Tensor, ctx: Context, products: Sequence[Product]) -> Tensor:
        """Return the output for x (B,T,dim), given the products in the order of their names."""
        to_q, to_k, to_v, to_o = products
        q, k, v, gate = to_q(x), to_k(x), to_v(x), None
        if self.config.gate == "sigmoid":
            q, gate = (part.flatten(-2) for part in q.unflatten(-1, (self.heads, -1)).chunk(2, -1))
        if self.q_norm is not None and self.k_norm is not None and self.config.qk_norm_over == "projection":
            q, k = self.q_norm(q), self.k_norm(k)
        q = q.unflatten(-1, (self.heads, self.head_dim))
        k = k.unflatten(-1, (self.kv_heads, self.head_dim))
        v = v.unflatten(-1, (self.kv_heads, self.head_dim))
        if self.q_norm is not None and self.k_norm is not None and self.config.qk_norm_over == "head":
            q, k = self.q_norm(q), self.k_norm(k)
        if self.q_gain is not None and self.k_gain is not None:
            q, k = q * self.q_gain, k * self.k_gain
        q, k = self.position(q, k, ctx.positions)
        how = Scoring(self.config.softcap, self.position.bias(), self.sinks, self.config.see)
        assert self.config.scale is not None
        y = ctx.attend(self.layer, q, k, v, scale=self.config.scale, window=self.config.window, how=how)
        y = y.flatten(-2)
        return to_o(y if gate is None else y * elementwise(torch.sigmoid, gate))
