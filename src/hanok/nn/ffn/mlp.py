"""The two-layer feed-forward network of the first Transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from torch import Tensor

from hanok.nn.experts import Product
from hanok.nn.ffn import FFNS
from hanok.nn.ffn.base import Dense, DenseConfig, Make
from hanok.nn.linear import Linear
from hanok.ops.activation import ACTIVATIONS, Activation


@FFNS.register("mlp", paper="Vaswani et al. 2017, arXiv 1706.03762")
class MLP(Dense):
    """down(activation(up(x))): ReLU in the first Transformer, GELU in GPT and BERT, ReLU squared in Primer."""

    class Config(DenseConfig):
        """`hidden` is the inner width, by default 4 times the model's."""

        kind: Literal["mlp"] = "mlp"
        activation: Activation = "gelu"

        def resolve(self, dim: int) -> Self:
            return self.model_copy(update={"hidden": self.hidden or 4 * dim})

    products = ("up", "down")

    def __init__(self, config: Config, dim: int, linear: Make = Linear) -> None:
        super().__init__(config, dim, linear)
        config = config.resolve(dim)
        bias = config.bias == "all"
        self.activation = ACTIVATIONS[config.activation]
        self.up = linear(dim, config.hidden, bias=bias)
        self.down = linear(config.hidden, dim, bias=bias)

    def formula(self, x: Tensor, products: Sequence[Product]) -> Tensor:
        up, down = products
        return down(self.activation(up(x)))
