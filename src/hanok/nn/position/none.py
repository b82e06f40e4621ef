"""No position signal: the causal mask alone orders the tokens."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.position import POSITIONS


@POSITIONS.register("none", paper="Kazemnejad et al. 2023, arXiv 2305.19466")
class NoPosition(nn.Module):
    """Leave queries and keys as they are (NoPE)."""

    class Config(PartConfig):
        """Nothing to choose."""

        kind: Literal["none"] = "none"

    def __init__(self, config: Config, head_dim: int) -> None:
        super().__init__()

    def forward(self, q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        return q, k
