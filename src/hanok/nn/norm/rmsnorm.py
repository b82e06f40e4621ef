"""Root mean square normalisation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.norm import NORMS
from hanok.ops.norm import rms_norm


@NORMS.register("rmsnorm", paper="Zhang and Sennrich 2019, arXiv 1910.07467")
class RMSNorm(nn.Module):
    """Divide by the root mean square, with a gain per feature and no centring.

    x (..., dim) -> x / sqrt(mean(x^2) + eps) * (offset + weight).
    """

    class Config(PartConfig):
        """`eps` keeps the root away from zero.

        With `offset` 1 the weights are distances from a gain of 1 (Gemma): they start at 0 and decay towards it.
        `weight` none leaves the gain out.
        """

        kind: Literal["rmsnorm"] = "rmsnorm"
        eps: float = 1e-6
        offset: float = 0.0
        weight: Literal["all", "none"] = "all"

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__()
        self.eps, self.offset = config.eps, config.offset
        self.weight = nn.Parameter(torch.full((dim,), 1.0 - config.offset)) if config.weight == "all" else None

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps, self.offset)
