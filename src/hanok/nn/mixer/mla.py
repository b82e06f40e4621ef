"""Multi-head latent attention: keys and values of all heads are made of one short vector, and that is what is kept."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
from torch import Tensor, nn

from hanok.core.config import PartConfig, spec_type
from hanok.nn.context import Context, PerToken
from hanok.nn.linear import Linear
from hanok.nn.mixer import MIXERS
from hanok.nn.norm import NORMS
from hanok.nn.norm.rmsnorm import RMSNorm
from hanok.nn.position import POSITIONS
from hanok.nn.position.rope import RoPE
from hanok.ops.matmul import linear
from hanok.ops.numerics import current


@MIXERS.register("mla", paper="DeepSeek-AI 2024 (DeepSeek-V2), arXiv 2405.04434")
class MLA(nn.Module):
    """Attention whose cache is a latent c (kv_rank) and one rotated key k_r (rope_dim) per token, for all heads.

    Head h: k = [U_h c, k_r], v = V_h c, q = [q_n, q_r]. Because q_n . (U_h c) = (U_h^T q_n) . c, a program that keeps
    the past attends with U_h^T q_n over the latents themselves and applies V_h afterwards (the absorbed form, section
    2.1.2); one that does not may spell keys and values out, which costs less over short sequences. Both are equal.
    """

    class Config(PartConfig):
        """`q_rank` None projects queries directly; `scale` defaults to 1 / sqrt(nope_dim + rope_dim)."""

        kind: Literal["mla"] = "mla"
        heads: int = pydantic.Field(gt=0)
        kv_rank: int = pydantic.Field(gt=0)
        q_rank: int | None = pydantic.Field(default=None, gt=0)
        nope_dim: int = pydantic.Field(gt=0)
        rope_dim: int = pydantic.Field(gt=0)
        v_dim: int = pydantic.Field(gt=0)
        position: spec_type(POSITIONS) = RoPE.Config()  # type: ignore[valid-type]
        norm: spec_type(NORMS) = RMSNorm.Config()  # type: ignore[valid-type]
        scale: float | None = pydantic.Field(default=None, gt=0)
        bias: Literal["none", "all"] = "none"

        def resolve(self, dim: int) -> MLA.Config:
            return self.model_copy(update={"scale": self.scale or (self.nope_dim + self.rope_dim) ** -0.5})

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        config = config.resolve(dim)
        assert config.scale is not None
        self.config, self.layer, self.scale = config, layer, config.scale
        self.heads, self.rank = config.heads, config.kv_rank
        bias, norm = config.bias == "all", NORMS[config.norm.kind]
        wide = config.heads * (config.nope_dim + config.rope_dim)
        if config.q_rank is None:
            self.q = Linear(dim, wide)
        else:
            self.q_down = Linear(dim, config.q_rank, bias=bias)
            self.q_norm = norm(config.norm, config.q_rank)
            self.q_up = Linear(config.q_rank, wide)
        self.kv_down = Linear(dim, config.kv_rank + config.rope_dim, bias=bias)
        self.kv_norm = norm(config.norm, config.kv_rank)
        self.kv_up = Linear(config.kv_rank, config.heads * (config.nope_dim + config.v_dim))
        self.o = Linear(config.heads * config.v_dim, dim, bias=bias)
        self.position = POSITIONS[config.position.kind](config.position, config.rope_dim, config.heads)

    def memory(self) -> PerToken:
        return PerToken(1, self.rank + self.config.rope_dim, self.rank, shared=True)

    def mixing_flops(self, past: int) -> int:
        """Return the FLOPs that one token spends on scores and latents over `past` tokens, in the absorbed form."""
        return 2 * self.heads * (2 * self.rank + self.config.rope_dim) * past

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        sizes = (self.config.nope_dim, self.config.rope_dim)
        q = self.q(x) if self.config.q_rank is None else self.q_up(self.q_norm(self.q_down(x)))
        q_nope, q_rope = q.unflatten(-1, (self.heads, -1)).split(sizes, -1)
        latent, k_rope = self.kv_down(x).split((self.rank, sizes[1]), -1)
        latent = self.kv_norm(latent)
        q_rope, k_rope = self.position(q_rope, k_rope.unsqueeze(-2), ctx.positions)
        if ctx.keeps or current() == "exact":
            y = self._absorbed(q_nope, q_rope, latent, k_rope, ctx)
        else:
            k_nope, v = self.kv_up(latent).unflatten(-1, (self.heads, -1)).split((sizes[0], self.config.v_dim), -1)
            k = torch.cat((k_nope, k_rope.expand(*k_nope.shape[:-1], -1)), -1)
            y = ctx.attend(self.layer, torch.cat((q_nope, q_rope), -1), k, v, scale=self.scale)
        out: Tensor = self.o(y.flatten(-2))
        return out

    def _absorbed(self, q_nope: Tensor, q_rope: Tensor, latent: Tensor, k_rope: Tensor, ctx: Context) -> Tensor:
        up = self.kv_up.unpacked().to(latent.dtype).unflatten(0, (self.heads, -1))  # H (nope + v) rank
        keys, values = up.split((self.config.nope_dim, self.config.v_dim), 1)
        q = torch.cat((_per_head(q_nope, keys.transpose(1, 2)), q_rope), -1)
        k = torch.cat((latent.unsqueeze(-2), k_rope), -1)
        y = ctx.attend(self.layer, q, k, k[..., : self.rank], scale=self.scale)
        return _per_head(y, values)


def _per_head(x_BTHK: Tensor, weight_HNK: Tensor) -> Tensor:
    """Return x @ weight.T head by head, (B,T,H,N)."""
    if current() == "fast":
        return torch.einsum("bthk,hnk->bthn", x_BTHK, weight_HNK)
    rows = [linear(x, weight) for x, weight in zip(x_BTHK.unbind(2), weight_HNK, strict=True)]
    return torch.stack(rows, 2)
