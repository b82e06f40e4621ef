"""Linear attention: a kernel in the place of the softmax turns attention into a recurrence."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.context import Context, PerSequence
from hanok.nn.linear import Linear
from hanok.nn.mixer import MIXERS
from hanok.ops.linear_attention import linear_attention
from hanok.ops.numerics import elementwise

EPS = 1e-6  # keeps the division finite where every kernel value underflows


@MIXERS.register("linear_attention", paper="Katharopoulos et al. 2020, arXiv 2006.16236")
class LinearAttention(nn.Module):
    """Attention with scores f(q) f(k), f(x) = elu(x) + 1, in the place of exp(q k): "transformers are RNNs".

    y_t = S_t f(q_t) / (z_t f(q_t)) with S_t = S_(t-1) + v_t f(k_t)^T and z_t = z_(t-1) + f(k_t); a column of ones
    beside the values makes z a part of S.
    """

    class Config(PartConfig):
        """`head_dim` defaults to dim / heads, `value_dim` to `head_dim`; both are sizes of one head."""

        kind: Literal["linear_attention"] = "linear_attention"
        heads: int = pydantic.Field(gt=0)
        head_dim: int | None = pydantic.Field(default=None, gt=0)
        value_dim: int | None = pydantic.Field(default=None, gt=0)
        bias: Literal["none", "qkv", "all"] = "none"

        def resolve(self, dim: int) -> LinearAttention.Config:
            if self.head_dim is None and dim % self.heads:
                raise ValueError(
                    f"{self.kind}: dim ({dim}) must be a multiple of heads ({self.heads}) or give head_dim"
                )
            head_dim = self.head_dim or dim // self.heads
            return self.model_copy(update={"head_dim": head_dim, "value_dim": self.value_dim or head_dim})

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        config = config.resolve(dim)
        assert config.head_dim and config.value_dim
        self.config, self.layer = config, layer
        self.heads, self.head_dim, self.value_dim = config.heads, config.head_dim, config.value_dim
        bias = config.bias != "none"
        self.q = Linear(dim, self.heads * self.head_dim, bias=bias)
        self.k = Linear(dim, self.heads * self.head_dim, bias=bias)
        self.v = Linear(dim, self.heads * self.value_dim, bias=bias)
        self.o = Linear(self.heads * self.value_dim, dim, bias=config.bias == "all")

    def memory(self) -> PerSequence:
        """Return the state's shape: S of each head, with z as its last row."""
        wide = torch.float64 if self.q.weight.dtype == torch.float64 else torch.float32
        return PerSequence((self.heads, self.value_dim + 1, self.head_dim), wide)

    def mixing_flops(self, past: int) -> int:
        """Return the FLOPs that one token spends on writing to the state and reading it, however long the past."""
        return self.heads * (4 * (self.value_dim + 1) * self.head_dim + self.value_dim)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        packed = torch.cat((self.q(x), self.k(x), self.v(x)), -1)
        out: Tensor = self.o(ctx.recur(self.layer, self._chunk, packed, self.memory()))
        return out

    def _chunk(self, packed: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        wide = packed.to(state.dtype)
        keys = self.heads * self.head_dim
        qk, v = wide[..., : 2 * keys], wide[..., 2 * keys :].unflatten(-1, (self.heads, self.value_dim))
        q, k = (elementwise(F.elu, qk) + 1).unflatten(-1, (2, self.heads, self.head_dim)).unbind(-3)
        y, after = linear_attention(q, k, F.pad(v, (0, 1), value=1.0), state)
        y = y[..., :-1] / (y[..., -1:] + EPS)
        return y.flatten(-2).to(packed.dtype), after
