"""What the recurrent networks share: a product of the inputs, a product of the state, and a state of a fixed width."""

from __future__ import annotations

from typing import Literal, Self

import pydantic
import torch
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.context import Context, PerSequence
from hanok.nn.linear import Linear


class CellConfig(PartConfig):
    """`width` is the state's size (default: the model's); `project` leads it back to the model's, if that differs."""

    width: int | None = pydantic.Field(default=None, gt=0)
    project: Literal["none", "linear"] | None = None
    bias: Literal["none", "all"] = "all"

    def resolve(self, dim: int) -> Self:
        width = self.width or dim
        project = self.project or ("none" if width == dim else "linear")
        if project == "none" and width != dim:
            raise ValueError(f"{self.kind}: width ({width}) must be dim ({dim}), or give project: linear")
        return self.model_copy(update={"width": width, "project": project})


class Cell(nn.Module):
    """A recurrent layer: `input` is applied to a whole chunk at once, `hidden` step after step.

    Both carry a bias, as in `torch.nn`. A kind says how many `gates` and `pieces` of state it has, what its gates
    cost in FLOPs per unit of width, and in `run` how a chunk moves the state.
    """

    gates: int
    pieces = 1
    gate_flops: int

    def __init__(self, config: CellConfig, dim: int, layer: int) -> None:
        super().__init__()
        config = config.resolve(dim)
        self.config, self.layer, self.width = config, layer, config.width or dim
        bias = config.bias == "all"
        self.input = Linear(dim, self.gates * self.width, bias=bias)
        self.hidden = Linear(self.width, self.gates * self.width, bias=bias)
        self.out = Linear(self.width, dim) if config.project == "linear" else None

    def memory(self) -> PerSequence:
        """Return the state's shape, `pieces` rows of the width."""
        wide = torch.float64 if self.hidden.weight.dtype == torch.float64 else torch.float32
        return PerSequence((self.pieces, self.width), wide)

    def mixing_flops(self, past: int) -> int:
        """Return the FLOPs that one token spends in the gates, however long the past."""
        return self.gate_flops * self.width

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        y = ctx.recur(self.layer, self._chunk, self.input(x), self.memory())
        if self.out is not None:
            y = self.out(y)
        return y

    def run(self, pre: Tensor, state: tuple[Tensor, ...], weight: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return all h (B,T,W) and the pieces of the state after the chunk."""
        raise NotImplementedError

    def hidden_bias(self, like: Tensor) -> Tensor:
        """Return the bias of the state's product, zeros where there is none."""
        if self.hidden.bias is None:
            return like.new_zeros(self.gates * self.width)
        return self.hidden.bias.to(like.dtype)

    def _chunk(self, pre_BTG: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        # The state's product is taken in the state's dtype: what a network carries for long must not be rounded often.
        weight = self.hidden.unpacked().to(state.dtype)
        hs, after = self.run(pre_BTG.to(state.dtype), state.unbind(1), weight)
        return hs.to(pre_BTG.dtype), torch.stack(after, 1)
