"""Experts choose their tokens, so that every expert has the same load."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
from torch import Tensor

from hanok.nn.router import ROUTERS
from hanok.nn.router.base import Choice, Router, RouterConfig


@ROUTERS.register("expert_choice", paper="Zhou et al. 2022, arXiv 2202.09368")
class ExpertChoice(Router):
    """Each expert takes the T * factor / E tokens of a row that score highest for it (at least one).

    Scores are softmax(x W^T) over experts, and weight the outputs; a token may have many experts or none. A token's
    output depends on every other token of its row, later ones too: this suits encoders, and a decoder trained with it
    has seen the future. Where a row holds several sequences (packing, serving), they compete.
    """

    class Config(RouterConfig):
        """`factor` is how many experts a token has on average."""

        kind: Literal["expert_choice"] = "expert_choice"
        factor: float = pydantic.Field(default=2.0, gt=0)

        def check(self, experts: int) -> None:
            if self.factor > experts:
                raise ValueError(f"expert_choice: factor ({self.factor:g}) must not exceed experts ({experts})")

    def __init__(self, config: Config, dim: int, experts: int) -> None:
        super().__init__(config, dim, experts)
        self.per_token = config.factor

    def choose(self, logits: Tensor) -> Choice:
        probs = torch.softmax(logits, -1)
        tokens = min(logits.shape[1], max(1, int(logits.shape[1] * self.per_token / self.outputs)))
        taken = torch.zeros_like(probs, dtype=torch.bool).scatter(1, probs.topk(tokens, 1).indices, True)
        # As wide as the most wanted token needs; the other places are dropped before anything is computed.
        width = int(taken.sum(-1).max()) if tokens else 1
        weights, experts = torch.where(taken, probs, -1.0).topk(width, -1)
        return Choice(experts, weights, probs, weights >= 0)
