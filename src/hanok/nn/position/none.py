"""No position signal: the causal mask alone orders the tokens."""

from __future__ import annotations

from typing import Literal

from hanok.core.config import PartConfig
from hanok.nn.position import POSITIONS
from hanok.nn.position.base import Position


@POSITIONS.register("none", paper="Kazemnejad et al. 2023, arXiv 2305.19466")
class NoPosition(Position):
    """Leave queries and keys as they are (NoPE)."""

    class Config(PartConfig):
        """Nothing to choose."""

        kind: Literal["none"] = "none"

    def __init__(self, config: Config, width: int, heads: int = 1) -> None:
        super().__init__()
