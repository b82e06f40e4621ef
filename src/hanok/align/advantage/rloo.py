"""Leave-one-out advantages."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from hanok.align.advantage import ADVANTAGES
from hanok.core.config import PartConfig


@ADVANTAGES.register("rloo", paper="arXiv:2402.14740")
class LeaveOneOut:
    """A_i = r_i - mean of the other rewards of the group, an unbiased baseline."""

    class Config(PartConfig):
        """No options."""

        kind: Literal["rloo"] = "rloo"

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, rewards_PG: Tensor) -> Tensor:
        """Return the advantages of P groups of G completions."""
        size = rewards_PG.shape[-1]
        others = (rewards_PG.sum(-1, keepdim=True) - rewards_PG) / (size - 1)
        return rewards_PG - others
