"""Mamba: a selective state space behind a short convolution."""

from __future__ import annotations

import math
from typing import Literal

import pydantic
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hanok.core.config import PartConfig, optional_spec
from hanok.nn.context import Context, PerSequence
from hanok.nn.linear import Linear
from hanok.nn.mixer import MIXERS
from hanok.nn.norm import NORMS
from hanok.ops.causal_conv import causal_conv
from hanok.ops.numerics import elementwise
from hanok.ops.selective_scan import selective_scan


@MIXERS.register("mamba", paper="Gu and Dao 2023, arXiv 2312.00752")
class Mamba(nn.Module):
    """A state space whose step size, input and output depend on the token: memory of a fixed size, chosen content.

    x, z = in_proj(.), u = silu(conv(x)), (r, b, c) = x_proj(u), dt = softplus(dt_proj(r) + dt_bias), A = -exp(A_log):
    h_t = exp(dt_t A) h_(t-1) + dt_t b_t u_t, and out((<c_t, h_t> + D u_t) * silu(z_t)) (section 3).
    """

    class Config(PartConfig):
        """`width` is the inner size (default: twice the model's), `state` the numbers per channel, `conv` the taps.

        `rank` is the size of r (default: dim / 16, rounded up), `norm` a norm on each of r, b and c (Lieber et al.
        2024, Jamba, arXiv 2403.19887), `step` the range in which dt starts, log-uniform.
        """

        kind: Literal["mamba"] = "mamba"
        width: int | None = pydantic.Field(default=None, gt=0)
        state: int = pydantic.Field(default=16, gt=0)
        conv: int = pydantic.Field(default=4, gt=0)
        rank: int | None = pydantic.Field(default=None, gt=0)
        bias: Literal["none", "conv", "proj", "all"] = "conv"
        norm: optional_spec(NORMS) = None  # type: ignore[valid-type]
        step: tuple[pydantic.PositiveFloat, pydantic.PositiveFloat] = (1e-3, 0.1)

        def resolve(self, dim: int) -> Mamba.Config:
            return self.model_copy(update={"width": self.width or 2 * dim, "rank": self.rank or -(-dim // 16)})

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        config = config.resolve(dim)
        assert config.width and config.rank
        self.config, self.layer = config, layer
        self.width, self.state, self.rank = config.width, config.state, config.rank
        biased = config.bias in ("proj", "all")
        self.in_proj = Linear(dim, 2 * self.width, bias=biased)
        self.conv_weight = nn.Parameter(torch.empty(self.width, 1, config.conv))
        self.conv_bias = nn.Parameter(torch.empty(self.width)) if config.bias in ("conv", "all") else None
        self.x_proj = Linear(self.width, self.rank + 2 * self.state)
        self.dt_proj = Linear(self.rank, self.width)
        self.dt_bias = nn.Parameter(torch.empty(self.width))
        self.A_log = nn.Parameter(torch.empty(self.width, self.state))
        self.D = nn.Parameter(torch.empty(self.width))
        self.out = Linear(self.width, dim, bias=biased)
        if config.norm is not None:
            norm = NORMS[config.norm.kind]
            self.dt_norm, self.b_norm, self.c_norm = (
                norm(config.norm, size) for size in (self.rank, self.state, self.state)
            )

    def reset(self, generator: torch.Generator) -> None:
        """Start with A = -1..-N in every channel, and with step sizes spread evenly over the magnitudes of `step`."""
        with torch.no_grad():
            self.A_log.copy_(torch.arange(1, self.state + 1).log().expand_as(self.A_log))
            self.D.fill_(1.0)
            reset_step(self.dt_bias, self.config.step, generator)
            reset_conv(self.conv_weight, self.conv_bias, generator)

    def memory(self) -> PerSequence:
        """Return the size of the state: the last inputs that the convolution still needs, and h."""
        return PerSequence(((self.config.conv - 1 + self.state) * self.width,), wide(self.A_log))

    def mixing_flops(self, past: int) -> int:
        """Return the FLOPs that one token spends on the convolution and the recurrence, however long the past."""
        return (7 * self.state + 2 * self.config.conv + 4) * self.width

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        x, z = self.in_proj(x).chunk(2, -1)
        y = ctx.recur(self.layer, self._scan, x, self.memory())
        out: Tensor = self.out(y * elementwise(F.silu, z))
        return out

    def _scan(self, x_BTD: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        dtype, kept = state.dtype, (self.config.conv - 1) * self.width
        past, h = state[:, :kept].unflatten(1, (-1, self.width)), state[:, kept:].view(-1, 1, self.state, self.width)
        bias = None if self.conv_bias is None else self.conv_bias.to(dtype)
        u, past = causal_conv(x_BTD.to(dtype), past, self.conv_weight.to(dtype), bias)
        u = elementwise(F.silu, u)
        r, b, c = self.x_proj(u.to(x_BTD.dtype)).split((self.rank, self.state, self.state), -1)
        if self.config.norm is not None:
            r, b, c = self.dt_norm(r), self.b_norm(b), self.c_norm(c)
        dt = elementwise(F.softplus, self.dt_proj(r).to(dtype) + self.dt_bias.to(dtype))
        A = -elementwise(torch.exp, self.A_log.to(dtype))
        y, h = selective_scan(u, dt, A, b.to(dtype).unsqueeze(2), c.to(dtype).unsqueeze(2), h)
        y = y + u * self.D.to(dtype)
        return y.to(x_BTD.dtype), torch.cat((past.flatten(1), h.flatten(1)), 1)


def wide(weight: Tensor) -> torch.dtype:
    """Return the dtype in which a state is kept."""
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def reset_step(bias: Tensor, step: tuple[float, float], generator: torch.Generator) -> None:
    """Fill the bias of step sizes so that softplus(bias) is log-uniform over a range."""
    low, high = math.log(step[0]), math.log(step[1])
    dt = torch.empty(bias.shape).uniform_(low, high, generator=generator).exp()
    bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus, with its digits for small steps


def reset_conv(weight: Tensor, bias: Tensor | None, generator: torch.Generator) -> None:
    """Fill a depthwise convolution uniformly within 1 / sqrt(taps), as `torch.nn.Conv1d` starts."""
    bound = weight.shape[-1] ** -0.5
    for part in (weight,) if bias is None else (weight, bias):
        part.copy_(torch.empty(part.shape).uniform_(-bound, bound, generator=generator))
