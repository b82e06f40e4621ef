"""The first neural language model's view of the past: the last few inputs side by side, through one hidden layer."""

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


@MIXERS.register("window_mlp", paper="Bengio et al. 2003, JMLR 3")
class WindowMLP(nn.Module):
    """The last n inputs side by side: y_t = U tanh(H [x_(t-n+1), ..., x_t] + d), zeros before the first token.

    What lies further back than n tokens cannot be seen, however much is learned; every distance has weights of its own.
    """

    class Config(PartConfig):
        """`tokens` is n, this token among them; `hidden` the hidden layer's width (default: 4 times the model's)."""

        kind: Literal["window_mlp"] = "window_mlp"
        tokens: int = pydantic.Field(default=8, ge=2)
        hidden: int | None = pydantic.Field(default=None, gt=0)

        def resolve(self, dim: int) -> WindowMLP.Config:
            return self.model_copy(update={"hidden": self.hidden or 4 * dim})

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        config = config.resolve(dim)
        assert config.hidden
        self.layer, self.dim, self.tokens = layer, dim, config.tokens
        self.input = Linear(self.tokens * dim, config.hidden, bias=True)
        self.out = Linear(config.hidden, dim)

    def memory(self) -> PerSequence:
        """Return the size of the last n - 1 inputs."""
        wide = torch.float64 if self.out.weight.dtype == torch.float64 else torch.float32
        return PerSequence(((self.tokens - 1) * self.dim,), wide)

    def mixing_flops(self, past: int) -> int:
        """Return the FLOPs spent on the past: none beyond the two products."""
        return 0

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        beside = ctx.recur(self.layer, self._beside, x, self.memory())
        out: Tensor = self.out(elementwise(torch.tanh, self.input(beside)))
        return out

    def _beside(self, x_BTD: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each token its window, oldest first, (B, T, n * D), and the last n - 1 inputs."""
        length = x_BTD.shape[1]
        inputs = torch.cat((state.to(x_BTD.dtype).unflatten(1, (self.tokens - 1, self.dim)), x_BTD), 1)
        windows = torch.cat([inputs[:, i : i + length] for i in range(self.tokens)], -1)
        return windows, inputs[:, length:].flatten(1).to(state.dtype)
