"""Channel mixing of RWKV-4: a feed-forward network that also sees the token before, and so needs a state."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.context import Context, PerSequence
from hanok.nn.linear import Linear
from hanok.nn.mixer import MIXERS
from hanok.nn.mixer.rwkv_time import blend, ramp, shift
from hanok.ops.numerics import elementwise


@MIXERS.register("rwkv_channel", paper="Peng et al. 2023 (RWKV), arXiv 2305.13048")
class RWKVChannel(nn.Module):
    """Channel mixing of RWKV-4: sigmoid(r) * down(relu(k)^2), with r and k made of each token and the one before it."""

    class Config(PartConfig):
        """`hidden` is the number of inner channels (default: four times the model's)."""

        kind: Literal["rwkv_channel"] = "rwkv_channel"
        hidden: int | None = pydantic.Field(default=None, gt=0)

        def resolve(self, dim: int) -> RWKVChannel.Config:
            return self.model_copy(update={"hidden": self.hidden or 4 * dim})

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        self.config, self.layer, self.dim = config, layer, dim
        hidden = config.resolve(dim).hidden or 4 * dim
        self.mix_key = nn.Parameter(torch.empty(dim))
        self.mix_receptance = nn.Parameter(torch.empty(dim))
        self.key = Linear(dim, hidden)
        self.receptance = Linear(dim, dim)
        self.down = Linear(hidden, dim)

    def reset(self, generator: torch.Generator) -> None:
        """Spread the mixes from the token before to this one, as in the paper's middle layer (appendix E)."""
        with torch.no_grad():
            self.mix_key.copy_(ramp(self.dim, 0.5))
            self.mix_receptance.copy_(ramp(self.dim, 0.5))

    def memory(self) -> PerSequence:
        """Return the state's shape: the last token."""
        wide = torch.float64 if self.key.weight.dtype == torch.float64 else torch.float32
        return PerSequence((self.dim,), wide)

    def mixing_flops(self, past: int) -> int:
        """Return the FLOPs that one token spends on the mixes, the square and the gate, however long the past."""
        return 9 * self.dim + self.key.outputs

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        return ctx.recur(self.layer, self._chunk, x, self.memory())

    def _chunk(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        before, last = shift(x, state)
        inner: Tensor = self.down(self.key(blend(x, before, self.mix_key)).relu().square())
        gate = elementwise(torch.sigmoid, self.receptance(blend(x, before, self.mix_receptance)))
        return gate * inner, last
