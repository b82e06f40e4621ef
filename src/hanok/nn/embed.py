"""The embedding: a table of tokens, and what some models add to its rows before the first layer."""

from __future__ import annotations

import pydantic
import torch
from torch import Tensor, nn

from hanok.core.config import Config, optional_spec, spec_type
from hanok.nn.linear import Linear
from hanok.nn.norm import NORMS
from hanok.nn.position import POSITIONS
from hanok.nn.position.none import NoPosition


class EmbedConfig(Config):
    """`scale` multiplies the table's rows; `types` rows of token types are added (BERT), then positions, then `norm`.

    A table narrower than the model (`width`) is projected up, without bias (OPT-350m).
    """

    width: int | None = pydantic.Field(default=None, gt=0)
    scale: float = 1.0
    position: spec_type(POSITIONS) = NoPosition.Config()  # type: ignore[valid-type]
    types: int = pydantic.Field(default=0, ge=0)
    norm: optional_spec(NORMS) = None  # type: ignore[valid-type]


class Table(nn.Embedding):
    """A table of rows that whoever builds the model draws or loads."""

    def reset_parameters(self) -> None:
        """Draw nothing: torch's own draw would be thrown away, and without memory it imports the whole compiler."""


class Embed(Table):
    """tokens (B,T) int64 -> (B,T,dim)."""

    def __init__(self, config: EmbedConfig, vocab: int, dim: int) -> None:
        super().__init__(vocab, config.width or dim)
        self.scale = config.scale
        self.up = Linear(config.width, dim) if config.width else None
        self.types = Table(config.types, dim) if config.types else None
        self.position = POSITIONS[config.position.kind](config.position, dim, 1)
        self.norm = NORMS[config.norm.kind](config.norm, dim) if config.norm else None

    def reset(self, generator: torch.Generator) -> None:
        """Draw the types' table as BERT does; the tokens' own is drawn with the model's."""
        if self.types is not None:
            with torch.no_grad():
                shape = self.types.weight.shape
                self.types.weight.copy_(torch.empty(shape).normal_(0.0, 0.02, generator=generator))

    def forward(self, tokens: Tensor, positions: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        x = super().forward(tokens)
        if self.scale != 1.0:
            x = x * torch.tensor(self.scale, dtype=x.dtype)  # rounded to the weights' dtype, as Gemma was trained
        x = x if self.up is None else self.up(x)
        if self.types is not None:
            x = x + self.types(torch.zeros_like(tokens) if types is None else types)
        if positions is not None:
            x = self.position.add(x, positions)
        return x if self.norm is None else self.norm(x)
