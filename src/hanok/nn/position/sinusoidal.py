"""Fixed sines and cosines of many wavelengths, added to the embeddings."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
from torch import Tensor

from hanok.core.config import PartConfig
from hanok.nn.position import POSITIONS
from hanok.nn.position.base import Position, reach

CHUNK = 1024  # the table grows by this many positions, so that a value's bits never depend on who asked first


@POSITIONS.register("sinusoidal", paper="Vaswani et al. 2017, arXiv 1706.03762")
class SinusoidalPosition(Position):
    """Add sin(p / theta^(2i / width)) and its cosine, for every i below width / 2, to the embedding at position p.

    x (B,T,width) -> x + table[positions]; section 3.5 of the paper, which multiplies embeddings by sqrt(width) first.
    """

    class Config(PartConfig):
        """In `layout` interleaved sine and cosine alternate (the paper), in half all sines come first (its code)."""

        kind: Literal["sinusoidal"] = "sinusoidal"
        theta: float = pydantic.Field(default=10000.0, gt=0)
        layout: Literal["interleaved", "half"] = "interleaved"

    def __init__(self, config: Config, width: int, heads: int = 1) -> None:
        super().__init__()
        self.config, self.width = config, width
        self._table: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def add(self, x: Tensor, positions: Tensor) -> Tensor:
        need = reach(positions)
        key = (positions.device, x.dtype)
        if key not in self._table or self._table[key].shape[0] < need:
            chunks = -(-need // CHUNK)
            table = torch.cat([self._rows(chunk * CHUNK) for chunk in range(chunks)])
            self._table[key] = table.to(positions.device, x.dtype)
        return x + self._table[key][positions]

    def _rows(self, start: int) -> Tensor:
        half = -(-self.width // 2)
        rates = self.config.theta ** (-2.0 * torch.arange(half, dtype=torch.float64) / self.width)
        angles = torch.arange(start, start + CHUNK, dtype=torch.float64)[:, None] * rates
        if self.config.layout == "half":
            return torch.cat((angles.sin(), angles.cos()[:, : self.width - half]), -1)
        return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, : self.width]
