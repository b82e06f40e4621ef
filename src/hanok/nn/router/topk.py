"""The k most probable experts of each token, without a limit on how many tokens an expert takes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hanok.nn.router import ROUTERS
from hanok.nn.router.base import Choice, Router, TokenChoiceConfig, normalised


@ROUTERS.register("topk", paper="Shazeer et al. 2017, arXiv 1701.06538; Jiang et al. 2024, Mixtral, arXiv 2401.04088")
class TopK(Router):
    """The k experts with the highest softmax(x W^T + b), weighted by it, normalised or not.

    Normalised, the weights are the softmax over the k logits alone. A token's choice depends on that token only.
    """

    class Config(TokenChoiceConfig):
        """`bias` adds a learned number to each logit, as GPT-OSS does."""

        kind: Literal["topk"] = "topk"
        bias: Literal["none", "logits"] = "none"

    def __init__(self, config: Config, dim: int, experts: int) -> None:
        super().__init__(config, dim, experts)
        self.per_token, self.normalise = config.per_token, config.normalise
        self.bias = nn.Parameter(torch.zeros(experts)) if config.bias == "logits" else None

    def logits(self, x: Tensor) -> Tensor:
        logits = super().logits(x)
        return logits if self.bias is None else logits + self.bias

    def choose(self, logits: Tensor) -> Choice:
        probs = torch.softmax(logits, -1)
        weights, experts = probs.topk(int(self.per_token), -1)
        return Choice(experts, normalised(weights, self.normalise), probs)
