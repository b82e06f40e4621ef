"""Group-normalised advantages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from hanok.align.advantage import ADVANTAGES
from hanok.core.config import PartConfig


@ADVANTAGES.register("grpo", paper="arXiv:2402.03300")
class GroupNormalised:
    """A = (r - mean) / (std + eps) over the group, with the unbiased standard deviation."""

    class Config(PartConfig):
        """The number that keeps a group of equal rewards from dividing by zero."""

        kind: Literal["grpo"] = "grpo"
        eps: float = Field(1e-4, gt=0)

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, rewards_PG: Tensor) -> Tensor:
        """Return the advantages of P groups of G completions."""
        mean, std = rewards_PG.mean(-1, keepdim=True), rewards_PG.std(-1, keepdim=True)
        return (rewards_PG - mean) / (std + self.config.eps)
