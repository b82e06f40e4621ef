"""One expert per token, and a limit on how many tokens of a sequence an expert takes."""

from __future__ import annotations

import math
from typing import Literal, Self

import pydantic
import torch
from torch import Tensor

from hanok.nn.router import ROUTERS
from hanok.nn.router.base import Choice, Router, RouterConfig
from hanok.ops.route import balance_loss, within_capacity


@ROUTERS.register("switch", paper="Fedus et al. 2021, arXiv 2101.03961")
class Switch(Router):
    """The most probable expert, weighted by its probability; what exceeds an expert's capacity is dropped.

    Capacity is counted within each row of the batch, first come, first served: a token's output depends on the earlier
    tokens of its row, and a dropped token gets zero. Where a row holds several sequences (packing, serving), they share
    the capacity. With neither `capacity` nor `factor` nothing is dropped.
    """

    class Config(RouterConfig):
        """`capacity`: tokens per expert and row; or `factor` times an even share, rounded up."""

        kind: Literal["switch"] = "switch"
        capacity: int | None = pydantic.Field(default=None, gt=0)
        factor: float | None = pydantic.Field(default=None, gt=0)

        @pydantic.model_validator(mode="after")
        def _one_limit(self) -> Self:
            if self.capacity is not None and self.factor is not None:
                raise ValueError("switch: give capacity (tokens) or factor (of an even share), not both")
            return self

    per_token = 1

    def __init__(self, config: Config, dim: int, experts: int) -> None:
        super().__init__(config, dim, experts)
        self.capacity, self.factor = config.capacity, config.factor

    def choose(self, logits: Tensor) -> Choice:
        probs = torch.softmax(logits, -1)
        weights, experts = probs.max(-1, keepdim=True)
        capacity = self.capacity
        if self.factor is not None:
            capacity = math.ceil(self.factor * logits.shape[1] / self.outputs)
        kept = None if capacity is None else within_capacity(experts, self.outputs, capacity)
        return Choice(experts, weights, probs, kept)

    def balance_loss(self, choice: Choice) -> Tensor:
        """Return the mean over rows of E * sum_e f_e P_e; what was dropped counts as chosen."""
        return balance_loss(choice.scores, choice.experts)
