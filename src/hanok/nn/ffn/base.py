"""What the dense feed-forward networks share: the same class with stacked linears is a set of experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Self, cast

import pydantic
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.experts import ExpertLinear, Product
from hanok.nn.linear import Linear
from hanok.ops.route import grouped

Make = Callable[..., Linear]


class DenseConfig(PartConfig):
    """`hidden` is the inner width."""

    hidden: int | None = pydantic.Field(default=None, gt=0)
    bias: Literal["none", "all"] = "none"


class Dense(nn.Module):
    """A network that treats every row alike, described by its products, by name, and a formula over them.

    `linear` makes the products: `Linear`, or stacked ones, whereupon the network is a set of experts.
    """

    products: tuple[str, ...]

    def __init__(self, config: Any, dim: int, linear: Make = Linear) -> None:
        super().__init__()

    def formula(self, x: Tensor, products: Sequence[Product]) -> Tensor:
        """Return the output for rows x, given the products in the order of their names."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x, [self.get_submodule(name) for name in self.products])

    def of_experts(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """Return what the stacked networks make of rows x (A, dim) that lie expert after expert, `counts[e]` each."""
        used = [expert for expert, count in enumerate(counts) if count]
        if not used:
            return x
        stacked = [cast(ExpertLinear, self.get_submodule(name)) for name in self.products]
        networks = [
            partial(self.formula, products=products)
            for products in zip(*(linear.apart(used) for linear in stacked), strict=True)
        ]
        return grouped(x, [counts[expert] for expert in used], networks)


class GatedConfig(DenseConfig):
    """`hidden` is the inner width; by default 8/3 of the model's, rounded up to a multiple of 32."""

    def resolve(self, dim: int) -> Self:
        return self.model_copy(update={"hidden": self.hidden or -(-dim * 8 // 3 // 32) * 32})


class Gated(Dense):
    """down(gating(gate(x), up(x))): a linear layer gated by another (Shazeer 2020, arXiv 2002.05202)."""

    products = ("gate", "up", "down")

    def __init__(self, config: GatedConfig, dim: int, linear: Make = Linear) -> None:
        super().__init__(config, dim, linear)
        self.config = config.resolve(dim)
        hidden, bias = self.config.hidden, self.config.bias == "all"
        self.gate = linear(dim, hidden, bias=bias)
        self.up = linear(dim, hidden, bias=bias)
        self.down = linear(hidden, dim, bias=bias)

    def gating(self, gate: Tensor, up: Tensor) -> Tensor:
        """Return what goes down again."""
        raise NotImplementedError

    def formula(self, x: Tensor, products: Sequence[Product]) -> Tensor:
        gate, up, down = products
        return down(self.gating(gate(x), up(x)))
