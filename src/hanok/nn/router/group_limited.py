"""Softmax scores, with the experts of a token drawn from its best groups only."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
from torch import Tensor

from hanok.nn.router import ROUTERS
from hanok.nn.router.base import Choice, Normalise, Router, TokenChoiceConfig, normalised
from hanok.ops.route import best_groups, sequence_balance_loss


class GroupedConfig(TokenChoiceConfig):
    """Experts lie in `groups` of equal size; a token may use `groups_per_token`. `scale` multiplies the weights."""

    groups: int = pydantic.Field(default=1, gt=0)
    groups_per_token: int = pydantic.Field(default=1, gt=0)
    scale: float = pydantic.Field(default=1.0, gt=0)

    def check(self, experts: int) -> None:
        super().check(experts)
        if experts % self.groups:
            raise ValueError(f"{self.kind}: experts ({experts}) must be a multiple of groups ({self.groups})")
        if self.groups_per_token > self.groups:
            raise ValueError(
                f"{self.kind}: groups_per_token ({self.groups_per_token}) must not exceed groups ({self.groups})"
            )
        room = experts // self.groups * self.groups_per_token
        if self.per_token > room:
            raise ValueError(f"{self.kind}: per_token ({self.per_token}) must not exceed the {room} experts allowed")


@ROUTERS.register("group_limited", paper="DeepSeek-AI 2024, DeepSeek-V2, arXiv 2405.04434")
class GroupLimited(Router):
    """The k highest softmax scores within the groups whose best expert scores highest, times `scale`.

    A token's choice depends on that token only.
    """

    class Config(GroupedConfig):
        """DeepSeek-V2 leaves the weights as they are."""

        kind: Literal["group_limited"] = "group_limited"
        normalise: Normalise = "none"

    config: Config

    def __init__(self, config: Config, dim: int, experts: int) -> None:
        super().__init__(config, dim, experts)
        self.per_token = config.per_token

    def choose(self, logits: Tensor) -> Choice:
        config = self.config
        probs = torch.softmax(logits, -1)
        allowed = probs
        if config.groups_per_token < config.groups:
            allowed = probs.masked_fill(~best_groups(probs, config.groups, config.groups_per_token, 1), 0.0)
        weights, experts = allowed.topk(config.per_token, -1)
        return Choice(experts, config.scale * normalised(weights, config.normalise), probs)

    def balance_loss(self, choice: Choice) -> Tensor:
        """Return the sequence-wise loss, 1 for even loads."""
        return sequence_balance_loss(choice.scores, choice.experts)
