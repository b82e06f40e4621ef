"""Time mixing of RWKV-4: a fading weighted mean of values, behind a gate, of tokens mixed with the one before."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.context import Context, PerSequence
from hanok.nn.linear import Linear
from hanok.nn.mixer import MIXERS
from hanok.ops.numerics import elementwise
from hanok.ops.wkv import wkv


@MIXERS.register("rwkv_time", paper="Peng et al. 2023 (RWKV), arXiv 2305.13048")
class RWKVTime(nn.Module):
    """Time mixing of RWKV-4: o(sigmoid(r) * wkv(k, v)), with r, k, v made of each token and the one before it.

    Every channel forgets at its own rate exp(decay) per token; `bonus` is what the present token's weight gains.
    With `rwkv_channel` as the next layer, both without a feed-forward network, this is one layer of RWKV.
    """

    class Config(PartConfig):
        """`width` is the number of channels (default: the model's)."""

        kind: Literal["rwkv_time"] = "rwkv_time"
        width: int | None = pydantic.Field(default=None, gt=0)

        def resolve(self, dim: int) -> RWKVTime.Config:
            return self.model_copy(update={"width": self.width or dim})

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        self.config, self.layer, self.dim = config, layer, dim
        self.width = config.resolve(dim).width or dim
        self.mix_key = nn.Parameter(torch.empty(dim))
        self.mix_value = nn.Parameter(torch.empty(dim))
        self.mix_receptance = nn.Parameter(torch.empty(dim))
        self.key = Linear(dim, self.width)
        self.value = Linear(dim, self.width)
        self.receptance = Linear(dim, self.width)
        self.decay = nn.Parameter(torch.empty(self.width))
        self.bonus = nn.Parameter(torch.empty(self.width))
        self.o = Linear(self.width, dim)

    def reset(self, generator: torch.Generator) -> None:
        """Spread the channels from slow to fast and the mixes from the token before to this one (appendix E).

        The paper's curves bend with the depth; these are the ones of its middle layer.
        """
        at = torch.arange(self.width) / max(1, self.width - 1)
        with torch.no_grad():
            self.decay.copy_(-5 + 8 * at**1.35)
            self.bonus.copy_(torch.log(torch.tensor(0.3)) + 0.5 * ((torch.arange(self.width) + 1) % 3 - 1))
            self.mix_key.copy_(ramp(self.dim, 0.5))
            self.mix_value.copy_(ramp(self.dim, 0.5) + 0.15)
            self.mix_receptance.copy_(ramp(self.dim, 0.25))

    def memory(self) -> PerSequence:
        """Return the state's shape: the last token, then the numerator, denominator and scale of each channel."""
        wide = torch.float64 if self.key.weight.dtype == torch.float64 else torch.float32
        return PerSequence((self.dim + 3 * self.width,), wide)

    def mixing_flops(self, past: int) -> int:
        """Return the FLOPs that one token spends on the mixes, the sums and the gate, however long the past."""
        return 12 * self.dim + 18 * self.width

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        out: Tensor = self.o(ctx.recur(self.layer, self._chunk, x, self.memory()))
        return out

    def _chunk(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        before, last = shift(x, state[:, : self.dim])
        k = self.key(blend(x, before, self.mix_key)).to(state.dtype)
        v = self.value(blend(x, before, self.mix_value)).to(state.dtype)
        gate = elementwise(torch.sigmoid, self.receptance(blend(x, before, self.mix_receptance)))
        fade = elementwise(torch.exp, self.decay.to(state.dtype))
        sums = state[:, self.dim :].unflatten(-1, (3, self.width))
        y, sums = wkv(k, v, fade, self.bonus.to(state.dtype), sums)
        return gate * y.to(x.dtype), torch.cat((last, sums.flatten(1)), -1)


def shift(x_BTD: Tensor, last_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Return the token before each token, and the last one for the state."""
    before = torch.cat((last_BD.to(x_BTD.dtype).unsqueeze(1), x_BTD[:, :-1]), 1)
    return before, x_BTD[:, -1].to(last_BD.dtype)


def blend(x: Tensor, before: Tensor, mix: Tensor) -> Tensor:
    """Return mix x + (1 - mix) before, channel by channel."""
    return x * mix + before * (1 - mix)


def ramp(width: int, power: float) -> Tensor:
    """Return (i / width)^power over the channels i."""
    return (torch.arange(width) / width) ** power
