"""Layer normalisation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.norm import NORMS
from hanok.ops.norm import layer_norm


@NORMS.register("layernorm", paper="Ba et al. 2016, arXiv 1607.06450")
class LayerNorm(nn.Module):
    """Subtract the mean and divide by the standard deviation of each row, then scale and shift each feature.

    x (..., dim) -> (x - mean(x)) / sqrt(var(x) + eps) * weight + bias.
    """

    class Config(PartConfig):
        """`eps` keeps the root away from zero; `weight` and `bias` say which learned parts there are.

        Neither of them makes OLMo's non-parametric norm (Groeneveld et al. 2024, arXiv 2402.00838, section 2.1).
        """

        kind: Literal["layernorm"] = "layernorm"
        eps: float = 1e-5
        weight: Literal["all", "none"] = "all"
        bias: Literal["all", "none"] = "all"

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__()
        self.eps = config.eps
        self.weight = nn.Parameter(torch.ones(dim)) if config.weight == "all" else None
        self.bias = nn.Parameter(torch.zeros(dim)) if config.bias == "all" else None

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, self.eps)
