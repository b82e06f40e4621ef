"""Centred advantages, without the division that favours groups of nearly equal rewards."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from hanok.align.advantage import ADVANTAGES
from hanok.core.config import PartConfig


@ADVANTAGES.register("dr_grpo", paper="arXiv:2503.20783")
class Centred:
    """A = r - mean over the group."""

    class Config(PartConfig):
        """No options."""

        kind: Literal["dr_grpo"] = "dr_grpo"

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, rewards_PG: Tensor) -> Tensor:
        """Return the advantages of P groups of G completions."""
        return rewards_PG - rewards_PG.mean(-1, keepdim=True)
