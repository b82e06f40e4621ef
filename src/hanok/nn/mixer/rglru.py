"""The recurrent block of Griffin: a short convolution and a gated linear recurrence."""

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
from hanok.ops.numerics import elementwise
from hanok.ops.scan import linear_scan

SHARPNESS = 8.0  # the constant c of the paper


@MIXERS.register("rglru", paper="De et al. 2024 (Griffin), arXiv 2402.19427")
class RGLRU(nn.Module):
    """Real-gated linear recurrent unit: memory of a fixed size, gates that depend on the input alone.

    With u the convolved input, r = sigmoid(W_r u + b_r), i = sigmoid(W_i u + b_i), a = exp(-8 softplus(decay) r):
    h_t = a_t h_(t-1) + sqrt(1 - a_t^2) (i_t u_t); the block returns out(gelu(gate(x)) * h) (section 2.4).
    """

    class Config(PartConfig):
        """`width` is the state's size (default: the model's), `conv` the reach of the convolution in tokens."""

        kind: Literal["rglru"] = "rglru"
        width: int | None = pydantic.Field(default=None, gt=0)
        conv: int = pydantic.Field(default=4, gt=0)

        def resolve(self, dim: int) -> RGLRU.Config:
            return self.model_copy(update={"width": self.width or dim})

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        self.width = config.resolve(dim).width or dim
        self.x = Linear(dim, self.width)
        self.gate = Linear(dim, self.width)
        self.conv = nn.Parameter(torch.empty(config.conv, self.width))
        self.recurrence_gate = Linear(self.width, self.width, bias=True)
        self.input_gate = Linear(self.width, self.width, bias=True)
        self.decay = nn.Parameter(torch.empty(self.width))
        self.out = Linear(self.width, dim)

    def reset(self, generator: torch.Generator) -> None:
        """Start with a^8 spread evenly over [0.9, 0.999], and a convolution that passes its input through."""
        kept = torch.empty(self.width).uniform_(0.9, 0.999, generator=generator)
        with torch.no_grad():
            self.decay.copy_(torch.log(torch.expm1(-torch.log(kept) / SHARPNESS)))
            self.conv.normal_(0.0, 0.1, generator=generator)
            self.conv[-1] += 1.0

    def memory(self) -> PerSequence:
        """Return the state's shape: the last inputs that the convolution still needs, and h."""
        wide = torch.float64 if self.conv.dtype == torch.float64 else torch.float32
        return PerSequence((self.config.conv, self.width), wide)

    def mixing_flops(self, past: int) -> int:
        """Return the FLOPs that one token spends on the convolution and the recurrence, however long the past."""
        return (2 * self.config.conv + 6) * self.width

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        gate = elementwise(F.gelu, self.gate(x))
        out: Tensor = self.out(gate * ctx.recur(self.layer, self._scan, self.x(x), self.memory()))
        return out

    def _scan(self, x_BTW: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        dtype, reach = x_BTW.dtype, self.config.conv
        past, h = state[:, : reach - 1], state[:, reach - 1]
        inputs = torch.cat((past, x_BTW.to(state.dtype)), 1)
        length = x_BTW.shape[1]
        conv = self.conv.to(state.dtype)
        u = inputs[:, :length] * conv[0]
        for lag in range(1, reach):
            u = u + inputs[:, lag : lag + length] * conv[lag]
        narrow = u.to(dtype)
        r = elementwise(torch.sigmoid, self.recurrence_gate(narrow)).to(state.dtype)
        i = elementwise(torch.sigmoid, self.input_gate(narrow)).to(state.dtype)
        log_a = -SHARPNESS * elementwise(F.softplus, self.decay).to(state.dtype) * r
        # 1 - a^2 = -expm1(2 log a), which keeps its digits where a is close to one.
        drive = elementwise(lambda t: torch.sqrt(-torch.expm1(t)), 2 * log_a) * (i * u)
        hs = linear_scan(elementwise(torch.exp, log_a), drive, h)
        after = torch.cat((inputs[:, length:], hs[:, -1:]), 1)
        return hs.to(dtype), after
