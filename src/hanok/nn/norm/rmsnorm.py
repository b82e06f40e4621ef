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

    x (..., dim) -> x / sqrt(mean(x^2) + eps) * weight.
    """

    class Config(PartConfig):
        """`eps` keeps the root away from zero."""

        kind: Literal["rmsnorm"] = "rmsnorm"
        eps: float = 1e-6

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__()
        self.eps = config.eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)
