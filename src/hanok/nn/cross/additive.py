"""Additive attention: the first attention, whose scores come out of a small network."""

from __future__ import annotations

from typing import Literal, Self

import pydantic
import torch
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.context import Context, Made
from hanok.nn.cross import CROSSES
from hanok.nn.linear import Linear
from hanok.ops.cross import weighted_sum
from hanok.ops.numerics import elementwise


@CROSSES.register("additive", paper="Bahdanau et al. 2014, arXiv 1409.0473")
class AdditiveAttention(nn.Module):
    """Attention over an encoder's states h whose scores a network makes: softmax_j(v^T tanh(W x_t + U h_j + b)).

    The weighted sum of the states themselves is led back by o (sections 3.1 and A.1.2). The query is what the
    decoder's layer has made of step t, where the paper takes the state before it. Scores of T steps over S states cost
    T S `hidden` numbers of memory.
    """

    class Config(PartConfig):
        """`hidden` is the width of the network that makes scores (default: the model's)."""

        kind: Literal["additive"] = "additive"
        hidden: int | None = pydantic.Field(default=None, gt=0)

        def resolve(self, dim: int) -> Self:
            return self.model_copy(update={"hidden": self.hidden or dim})

    def __init__(self, config: Config, dim: int, layer: int) -> None:
        super().__init__()
        config = config.resolve(dim)
        assert config.hidden
        self.config, self.layer = config, layer
        self.q = Linear(dim, config.hidden, bias=True)
        self.k = Linear(dim, config.hidden)
        self.score = Linear(config.hidden, 1)
        self.o = Linear(dim, dim)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        out: Tensor = self.o(ctx.look(self.layer, x, self._make, self._read))
        return out

    def _make(self, states: Tensor) -> Made:
        return self.k(states), states

    def _read(self, x: Tensor, positions: Tensor, made: Made, seen: Tensor) -> Tensor:
        keys, states = made
        both = elementwise(torch.tanh, self.q(x).unsqueeze(2) + keys.unsqueeze(1))  # B T S hidden
        return weighted_sum(self.score(both).squeeze(-1), states, (seen, positions))
