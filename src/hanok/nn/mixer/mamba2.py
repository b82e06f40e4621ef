"""Mamba-2: a state space with one decay per head, computed as products of matrices."""

from __future__ import annotations

from typing import Literal, Self

import pydantic
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.context import Context, PerSequence
from hanok.nn.linear import Linear
from hanok.nn.mixer import MIXERS
from hanok.nn.mixer.mamba import reset_conv, reset_step, wide
from hanok.ops.causal_conv import causal_conv
from hanok.ops.norm import rms_norm
from hanok.ops.numerics import elementwise
from hanok.ops.ssd import ssd


@MIXERS.register("mamba2", paper="Dao and Gu 2024, arXiv 2405.21060")
class Mamba2(nn.Module):
    """State space duality: heads of channels that decay alike, so that training is made of matrix products.

    z, xbc, dt = in_proj(.), (x, b, c) = silu(conv(xbc)), dt = softplus(dt + dt_bias), A = -exp(A_log), per head:
    h_t = exp(dt_t A) h_(t-1) + dt_t b_t x_t^T, y_t = h_t^T c_t + D x_t, and out(rmsnorm(y_t * silu(z_t)) * norm),
    normed in as many groups as share their b and c (sections 5 to 7).
    """

    class Config(PartConfig):
        """`width` is the inner size (default: twice the model's) in heads of `head_dim`, `groups` share b and c.

        `state` is the numbers per channel, `conv` the taps, `limit` the range to which dt is clamped (None: no end),
        `step` the range in which dt starts, log-uniform.
        """

        kind: Literal["mamba2"] = "mamba2"
        width: int | None = pydantic.Field(default=None, gt=0)
        head_dim: int = pydantic.Field(default=64, gt=0)
        groups: int = pydantic.Field(default=1, gt=0)
        state: int = pydantic.Field(default=128, gt=0)
        conv: int = pydantic.Field(default=4, gt=0)
        bias: Literal["none", "conv", "proj", "all"] = "conv"
        eps: float = 1e-5
        limit: tuple[float, float | None] = (0.0, None)
        step: tuple[pydantic.PositiveFloat, pydantic.PositiveFloat] = (1e-3, 0.1)

        @pydantic.model_validator(mode="after")
        def _check(self) -> Self:
            if self.limit[1] is not None and self.limit[0] > self.limit[1]:
                raise ValueError(f"limit must be (lowest, highest), not {self.limit}")
            return self

        def resolve(self, dim: int) -> Mamba2.Config:
            width = self.width or 2 * dim
            if width % self.head_dim:
                raise ValueError(f"mamba2: width ({width}) must be a multiple of head_dim ({self.head_dim})")
            if width // self.head_dim % self.groups:
                raise ValueError(
                    f"mamba2: heads ({width // self.head_dim}) must be a multiple of groups ({self.groups})"
                )
            return self.model_copy(update={"width": width})

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        config = config.resolve(dim)
        assert config.width
        self.config, self.layer = config, layer
        self.width, self.heads = config.width, config.width // config.head_dim
        self.shared = config.groups * config.state  # numbers of b, and of c
        self.mixed = self.width + 2 * self.shared
        biased = config.bias in ("proj", "all")
        self.in_proj = Linear(dim, self.width + self.mixed + self.heads, bias=biased)
        self.conv_weight = nn.Parameter(torch.empty(self.mixed, 1, config.conv))
        self.conv_bias = nn.Parameter(torch.empty(self.mixed)) if config.bias in ("conv", "all") else None
        self.dt_bias = nn.Parameter(torch.empty(self.heads))
        self.A_log = nn.Parameter(torch.empty(self.heads))
        self.D = nn.Parameter(torch.empty(self.heads))
        self.norm_weight = nn.Parameter(torch.empty(self.width))
        self.out = Linear(self.width, dim, bias=biased)

    def reset(self, generator: torch.Generator) -> None:
        """Start with -A uniform in [1, 16], and with step sizes spread evenly over the magnitudes of `step`."""
        with torch.no_grad():
            self.A_log.copy_(torch.empty(self.heads).uniform_(1.0, 16.0, generator=generator).log())
            self.D.fill_(1.0)
            self.norm_weight.fill_(1.0)
            reset_step(self.dt_bias, self.config.step, generator)
            reset_conv(self.conv_weight, self.conv_bias, generator)

    def memory(self) -> PerSequence:
        """Return the size of the state: the last inputs that the convolution still needs, and h."""
        numbers = (self.config.conv - 1) * self.mixed + self.config.state * self.width
        return PerSequence((numbers,), wide(self.A_log))

    def mixing_flops(self, past: int) -> int:
        """Return the FLOPs that one token spends on the convolution and the recurrence, however long the past."""
        return (5 * self.config.state + 4) * self.width + 2 * self.config.conv * self.mixed

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        z, mixed = self.in_proj(x).split((self.width, self.mixed + self.heads), -1)
        y = ctx.recur(self.layer, self._scan, mixed, self.memory()) * elementwise(F.silu, z)
        y = y.unflatten(-1, (self.config.groups, -1))
        y = rms_norm(y, torch.ones_like(self.norm_weight[: y.shape[-1]]), self.config.eps).flatten(-2)
        out: Tensor = self.out(y * self.norm_weight)
        return out

    def _scan(self, mixed_BTM: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        config, dtype = self.config, state.dtype
        kept = (config.conv - 1) * self.mixed
        past = state[:, :kept].unflatten(1, (-1, self.mixed))
        h = state[:, kept:].view(len(state), config.groups, config.state, -1)
        xbc, dt = mixed_BTM.to(dtype).split((self.mixed, self.heads), -1)
        bias = None if self.conv_bias is None else self.conv_bias.to(dtype)
        u, past = causal_conv(xbc, past, self.conv_weight.to(dtype), bias)
        x, b, c = elementwise(F.silu, u).split((self.width, self.shared, self.shared), -1)
        dt = elementwise(F.softplus, dt + self.dt_bias.to(dtype))
        if config.limit != (0.0, None):  # a softplus is above zero by itself
            dt = dt.clamp(*config.limit)
        x = x.unflatten(-1, (self.heads, -1))
        b, c = (t.unflatten(-1, (config.groups, -1)) for t in (b, c))
        y, h = ssd(x, dt, -elementwise(torch.exp, self.A_log.to(dtype)), b, c, h)
        y = y + x * self.D.to(dtype)[:, None]
        return y.flatten(2).to(mixed_BTM.dtype), torch.cat((past.flatten(1), h.flatten(1)), 1)
