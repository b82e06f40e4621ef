"""The head: from the last hidden states to logits."""

from __future__ import annotations

from typing import Literal

import pydantic
from torch import Tensor, nn

from hanok.core.config import Config, optional_spec
from hanok.nn.linear import Linear
from hanok.nn.norm import NORMS
from hanok.ops.activation import ACTIVATIONS, Activation


class TransformConfig(Config):
    """A linear layer before the head: to `width` (default: the model's), then `activation`, then `norm`."""

    width: int | None = pydantic.Field(default=None, gt=0)
    activation: Activation | Literal["tanh", "none"] = "none"
    norm: optional_spec(NORMS) = None  # type: ignore[valid-type]
    bias: Literal["none", "all"] = "all"


class HeadConfig(Config):
    """`scale` multiplies the logits, `softcap` c then bounds them: c tanh(logits / c)."""

    bias: Literal["none", "all"] = "none"
    scale: float = 1.0
    softcap: float | None = pydantic.Field(default=None, gt=0)
    transform: TransformConfig | None = None


class Transform(nn.Module):
    """norm(activation(W x + b)), as before BERT's head; bare, a projection."""

    def __init__(self, config: TransformConfig, dim: int) -> None:
        super().__init__()
        self.width = config.width or dim
        self.dense = Linear(dim, self.width, bias=config.bias == "all")
        self.activation = None if config.activation == "none" else ACTIVATIONS[config.activation]
        self.norm = NORMS[config.norm.kind](config.norm, self.width) if config.norm else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.dense(x)
        y = y if self.activation is None else self.activation(y)
        out: Tensor = y if self.norm is None else self.norm(y)
        return out
