"""Gated DeltaNet: linear attention that can overwrite, with a gate that can forget."""

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
from hanok.nn.mixer.mamba import reset_conv, reset_step, wide
from hanok.nn.norm.rmsnorm import RMSNorm
from hanok.ops.causal_conv import causal_conv
from hanok.ops.delta_rule import gated_delta_rule
from hanok.ops.norm import rms_norm
from hanok.ops.numerics import elementwise

UNIT = 1e-6  # keeps the length of a query or key away from zero, as the published kernels do


@MIXERS.register("gated_deltanet", paper="Yang et al. 2024, arXiv 2412.06464")
class GatedDeltaNet(nn.Module):
    """The gated delta rule: write a value under a key in place of what stood there, and fade all else.

    q, k, v = silu(conv(.)), q and k of unit length, a = exp(-exp(A_log) softplus(a + dt_bias)), beta = sigmoid(b):
    S_t = a_t (I - beta_t k_t k_t^T) S_(t-1) + beta_t k_t v_t^T, y_t = S_t^T q_t / sqrt(head_dim), and
    out(rmsnorm(y_t) * silu(z_t)), normed per head (section 3).
    """

    class Config(PartConfig):
        """`heads` have keys of `head_dim`; each serves `value_heads / heads` heads of values of `value_dim`.

        `value_heads` defaults to `heads`, `head_dim` to dim / heads, `value_dim` to `head_dim`; `conv` is the taps,
        `step` the range in which the softplus starts, log-uniform.
        """

        kind: Literal["gated_deltanet"] = "gated_deltanet"
        heads: int = pydantic.Field(gt=0)
        value_heads: int | None = pydantic.Field(default=None, gt=0)
        head_dim: int | None = pydantic.Field(default=None, gt=0)
        value_dim: int | None = pydantic.Field(default=None, gt=0)
        conv: int = pydantic.Field(default=4, gt=0)
        eps: float = 1e-6
        step: tuple[pydantic.PositiveFloat, pydantic.PositiveFloat] = (1e-3, 0.1)

        def resolve(self, dim: int) -> GatedDeltaNet.Config:
            head_dim, value_heads = self.head_dim or dim // self.heads, self.value_heads or self.heads
            if value_heads % self.heads:
                raise ValueError(
                    f"gated_deltanet: value_heads ({value_heads}) must be a multiple of heads ({self.heads})"
                )
            if self.head_dim is None and dim % self.heads:
                raise ValueError(
                    f"gated_deltanet: dim ({dim}) must be a multiple of heads ({self.heads}), or give head_dim"
                )
            value_dim = self.value_dim or head_dim
            return self.model_copy(update={"head_dim": head_dim, "value_heads": value_heads, "value_dim": value_dim})

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        config = config.resolve(dim)
        assert config.head_dim and config.value_heads and config.value_dim
        self.config, self.layer = config, layer
        self.heads, self.value_heads = config.heads, config.value_heads
        self.head_dim, self.value_dim = config.head_dim, config.value_dim
        keys, values = self.heads * self.head_dim, self.value_heads * self.value_dim
        self.sizes = (keys, keys, values)
        # One row block per key head: its query, its key, the values and the gates of the heads that it serves.
        self.qkvz = Linear(dim, 2 * keys + 2 * values)
        self.ba = Linear(dim, 2 * self.value_heads)  # and the b and the a of these heads
        self.conv_weight = nn.Parameter(torch.empty(sum(self.sizes), 1, config.conv))
        self.dt_bias = nn.Parameter(torch.empty(self.value_heads))
        self.A_log = nn.Parameter(torch.empty(self.value_heads))
        self.norm = RMSNorm(RMSNorm.Config(eps=config.eps), self.value_dim)
        self.out = Linear(values, dim)

    def reset(self, generator: torch.Generator) -> None:
        """Start with exp(A_log) uniform in (0, 16], and with steps spread evenly over the magnitudes of `step`."""
        with torch.no_grad():
            self.A_log.copy_(torch.empty(self.value_heads).uniform_(0.01, 16.0, generator=generator).log())
            reset_step(self.dt_bias, self.config.step, generator)
            reset_conv(self.conv_weight, None, generator)

    def memory(self) -> PerSequence:
        """Return the size of the state: the last inputs that the convolution still needs, and S."""
        numbers = (self.config.conv - 1) * sum(self.sizes) + self.value_heads * self.head_dim * self.value_dim
        return PerSequence((numbers,), wide(self.A_log))

    def mixing_flops(self, past: int) -> int:
        """Return the FLOPs that one token spends on the convolution and the recurrence, however long the past."""
        return 7 * self.value_heads * self.head_dim * self.value_dim + 2 * self.config.conv * sum(self.sizes)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        served = self.value_heads // self.heads
        rows = (self.head_dim, self.head_dim, served * self.value_dim, served * self.value_dim)
        q, k, v, z = self.qkvz(x).unflatten(-1, (self.heads, -1)).split(rows, -1)
        b, a = self.ba(x).unflatten(-1, (self.heads, -1)).split((served, served), -1)
        mixed = torch.cat([part.flatten(-2) for part in (q, k, v, b, a)], -1)
        y = ctx.recur(self.layer, self._scan, mixed, self.memory())
        y = self.norm(y.unflatten(-1, (self.value_heads, -1))).flatten(-2)
        out: Tensor = self.out(y * elementwise(F.silu, z.flatten(-2)))
        return out

    def _scan(self, mixed_BTM: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        dtype, channels = state.dtype, sum(self.sizes)
        kept = (self.config.conv - 1) * channels
        past = state[:, :kept].unflatten(1, (-1, channels))
        s = state[:, kept:].view(len(state), self.value_heads, self.head_dim, self.value_dim)
        qkv, b, a = mixed_BTM.to(dtype).split((channels, self.value_heads, self.value_heads), -1)
        u, past = causal_conv(qkv, past, self.conv_weight.to(dtype), None)
        q, k, v = (
            t.unflatten(-1, (heads, -1))
            for t, heads in zip(
                elementwise(F.silu, u).split(self.sizes, -1), (self.heads, self.heads, self.value_heads), strict=True
            )
        )
        # Unit length by the root mean square: x / sqrt(|x|^2 + e) = rms(x, e / n) / sqrt(n); the query has one
        # factor more of 1 / sqrt(head_dim).
        ones = torch.ones(self.head_dim, dtype=dtype, device=u.device)
        q, k = (rms_norm(t, ones, UNIT / self.head_dim) for t in (q, k))
        q, k = q / self.head_dim, k * self.head_dim**-0.5
        served = self.value_heads // self.heads
        q, k = q.repeat_interleave(served, 2), k.repeat_interleave(served, 2)
        rate = elementwise(torch.exp, self.A_log.to(dtype))
        log_decay = -rate * elementwise(F.softplus, a + self.dt_bias.to(dtype))
        y, s = gated_delta_rule(q, k, v, log_decay, elementwise(torch.sigmoid, b), s)
        return y.flatten(2).to(mixed_BTM.dtype), torch.cat((past.flatten(1), s.flatten(1)), 1)
