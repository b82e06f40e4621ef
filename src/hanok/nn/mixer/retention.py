"""Retention: linear attention whose past fades at a rate of each head's own."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hanok.core.config import PartConfig, spec_type
from hanok.nn.context import Context, PerSequence
from hanok.nn.linear import Linear
from hanok.nn.mixer import MIXERS
from hanok.nn.position import POSITIONS
from hanok.nn.position.rope import RoPE
from hanok.ops.linear_attention import linear_attention
from hanok.ops.norm import layer_norm
from hanok.ops.numerics import elementwise


@MIXERS.register("retention", paper="Sun et al. 2023 (RetNet), arXiv 2307.08621")
class Retention(nn.Module):
    """Multi-scale retention of RetNet: a decay of each head's own in the place of the softmax.

    S_t = gamma S_(t-1) + v_t k_t^T, y_t = S_t q_t with q and k rotated by their position and gamma = 1 - 2^(-5-h)
    for head h; heads are normalised one by one, and the block returns o(swish(gate(x)) * y) (equations 5 to 8).
    """

    class Config(PartConfig):
        """`head_dim` defaults to dim / heads, `value_dim` to twice that; both are sizes of one head."""

        kind: Literal["retention"] = "retention"
        heads: int = pydantic.Field(gt=0)
        head_dim: int | None = pydantic.Field(default=None, gt=0)
        value_dim: int | None = pydantic.Field(default=None, gt=0)
        position: spec_type(POSITIONS) = RoPE.Config()  # type: ignore[valid-type]
        eps: float = pydantic.Field(default=1e-6, gt=0)

        def resolve(self, dim: int) -> Retention.Config:
            if self.head_dim is None and dim % self.heads:
                raise ValueError(
                    f"{self.kind}: dim ({dim}) must be a multiple of heads ({self.heads}) or give head_dim"
                )
            head_dim = self.head_dim or dim // self.heads
            return self.model_copy(update={"head_dim": head_dim, "value_dim": self.value_dim or 2 * head_dim})

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        config = config.resolve(dim)
        assert config.head_dim and config.value_dim
        self.config, self.layer = config, layer
        self.heads, self.head_dim, self.value_dim = config.heads, config.head_dim, config.value_dim
        self.decay = tuple(1 - 2.0 ** (-5 - head) for head in range(self.heads))
        self.q = Linear(dim, self.heads * self.head_dim)
        self.k = Linear(dim, self.heads * self.head_dim)
        self.v = Linear(dim, self.heads * self.value_dim)
        self.gate = Linear(dim, self.heads * self.value_dim)
        self.o = Linear(self.heads * self.value_dim, dim)
        self.position = POSITIONS[config.position.kind](config.position, self.head_dim, self.heads)
        if self.position.bias() is not None:
            raise ValueError(f"{config.kind} has no scores to which position {config.position.kind!r} could add")

    def memory(self) -> PerSequence:
        """Return the state's shape: S of each head."""
        wide = torch.float64 if self.q.weight.dtype == torch.float64 else torch.float32
        return PerSequence((self.heads, self.value_dim, self.head_dim), wide)

    def mixing_flops(self, past: int) -> int:
        """Return the FLOPs that one token spends on the state, the heads' norms and the gate, however long the past."""
        return self.heads * self.value_dim * (5 * self.head_dim + 9)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        q = self.q(x).unflatten(-1, (self.heads, self.head_dim))
        k = self.k(x).unflatten(-1, (self.heads, self.head_dim))
        q, k = self.position(q, k, ctx.positions)
        packed = torch.cat((q.flatten(-2), k.flatten(-2), self.v(x)), -1)
        y = ctx.recur(self.layer, self._chunk, packed, self.memory())
        out: Tensor = self.o(elementwise(F.silu, self.gate(x)) * y)
        return out

    def _chunk(self, packed: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        sizes = [self.heads * size for size in (self.head_dim, self.head_dim, self.value_dim)]
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in packed.to(state.dtype).split(sizes, -1))
        y, after = linear_attention(q, k * self.head_dim**-0.5, v, state, self.decay)
        return layer_norm(y, None, None, self.config.eps).flatten(-2).to(packed.dtype), after
