"""A table of learned vectors, one per position, added to the embeddings."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.core.errors import UsageError
from hanok.nn.position import POSITIONS
from hanok.nn.position.base import Position, reach


@POSITIONS.register("learned", paper="Gehring et al. 2017, arXiv 1705.03122; Radford et al. 2018 (GPT)")
class LearnedPosition(Position):
    """Add row `position + offset` of a learned table; there is nothing beyond its end.

    x (B,T,width) -> x + weight[positions + offset].
    """

    class Config(PartConfig):
        """`length` is the longest sequence; OPT's tables start two rows late (`offset`)."""

        kind: Literal["learned"] = "learned"
        length: int = pydantic.Field(gt=0)
        offset: int = pydantic.Field(default=0, ge=0)

    def __init__(self, config: Config, width: int, heads: int = 1) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.length + config.offset, width))

    def reset(self, generator: torch.Generator) -> None:
        """Draw the table as BERT and GPT-2 do: normal with deviation 0.02."""
        with torch.no_grad():
            self.weight.copy_(torch.empty(self.weight.shape).normal_(0.0, 0.02, generator=generator))

    def add(self, x: Tensor, positions: Tensor) -> Tensor:
        if (need := reach(positions)) > self.config.length:
            raise UsageError(f"position {need - 1} has no learned vector: this model reads {self.config.length} tokens")
        return x + F.embedding(positions + self.config.offset, self.weight)
