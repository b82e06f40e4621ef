"""Sigmoid scores balanced by a bias instead of a loss, as in DeepSeek-V3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pydantic
import torch
from torch import Tensor

from hanok.nn.router import ROUTERS
from hanok.nn.router.base import Choice, Router, normalised
from hanok.nn.router.group_limited import GroupedConfig
from hanok.ops.numerics import elementwise
from hanok.ops.route import best_groups, bias_step, load, sequence_balance_loss


@ROUTERS.register("sigmoid_group", paper="DeepSeek-AI 2024, DeepSeek-V3, arXiv 2412.19437")
class SigmoidGroup(Router):
    """Chosen by sigmoid(x W^T) + bias within the best groups, weighted by the sigmoid alone, times `scale`.

    A group is worth the sum of its two best. The bias is no parameter: after each training step it moves by `rate`
    towards even loads (Wang et al. 2024, arXiv 2408.15664). A token's choice depends on that token only.
    """

    class Config(GroupedConfig):
        """`rate` is the step of the bias; 0 leaves it as it is."""

        kind: Literal["sigmoid_group"] = "sigmoid_group"
        rate: float = pydantic.Field(default=0.001, ge=0)

        def check(self, experts: int) -> None:
            super().check(experts)
            if self.groups_per_token < self.groups and experts // self.groups < 2:
                raise ValueError(f"sigmoid_group: a group needs two experts or more (experts {experts})")

    config: Config
    bias: Tensor

    def __init__(self, config: Config, dim: int, experts: int) -> None:
        super().__init__(config, dim, experts)
        self.per_token = config.per_token
        self.register_buffer("bias", torch.zeros(experts))
        self._loads: Tensor | None = None

    def choose(self, logits: Tensor) -> Choice:
        config = self.config
        scores = elementwise(torch.sigmoid, logits)
        worth = scores.detach() + self.bias
        if config.groups_per_token < config.groups:
            worth = worth.masked_fill(~best_groups(worth, config.groups, config.groups_per_token, 2), -torch.inf)
        experts = worth.topk(config.per_token, -1).indices
        weights = normalised(scores.gather(-1, experts), config.normalise)
        return Choice(experts, config.scale * weights, scores)

    def balance_loss(self, choice: Choice) -> Tensor:
        """Return the sequence-wise loss, 1 for even loads."""
        return sequence_balance_loss(choice.scores, choice.experts)

    def count(self, choice: Choice) -> None:
        """Add to the loads since the last step of the bias."""
        loads = load(choice.experts, self.outputs)
        self._loads = loads if self._loads is None else self._loads + loads

    def rebalance(self, total: Callable[[Tensor], Tensor] = torch.clone) -> None:
        """Move the bias towards even loads, and start counting anew; `total` sums loads over processes."""
        if self._loads is not None:
            self.bias.copy_(bias_step(self.bias, total(self._loads), self.config.rate))
        self._loads = None
