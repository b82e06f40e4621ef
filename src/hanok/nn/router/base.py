"""What routers share: logits in full precision, and what is reported to the tally."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pydantic
import torch
from torch import Tensor, nn

from hanok.core.config import PartConfig
from hanok.nn.router.tally import current
from hanok.ops.matmul import linear
from hanok.ops.route import balance_loss

Normalise = Literal["none", "sum"]


@dataclass(frozen=True)
class Choice:
    """What a router decided about T tokens of B sequences.

    `experts` (B, T, k) and `weights` (B, T, k) of their outputs; `scores` (B, T, E), of which the balance loss takes
    means; `kept` (B, T, k) is False where an assignment is not computed, None where all are.
    """

    experts: Tensor
    weights: Tensor
    scores: Tensor
    kept: Tensor | None = None


class RouterConfig(PartConfig):
    """Weights of the balance loss and of the z-loss in the training loss; 0 leaves them out."""

    balance: float = pydantic.Field(default=0.0, ge=0)
    z: float = pydantic.Field(default=0.0, ge=0)

    def check(self, experts: int) -> None:
        """Raise a ValueError where this router cannot choose among so many experts."""


class TokenChoiceConfig(RouterConfig):
    """A token is sent to `per_token` experts; `normalise` divides their weights by the weights' sum."""

    per_token: int = pydantic.Field(default=2, gt=0)
    normalise: Normalise = "sum"

    def check(self, experts: int) -> None:
        if self.per_token > experts:
            raise ValueError(f"{self.kind}: per_token ({self.per_token}) must not exceed experts ({experts})")


class Router(nn.Module):
    """Scores every expert for every token and chooses; subclasses say how.

    One product of `inputs` by `outputs` per token, counted like a Linear's; `per_token` is how many experts a token
    visits on average. It is no Linear: its product stays in full precision, whatever the others are packed into.
    """

    copies = 1
    active: float = 1
    per_token: float

    def __init__(self, config: RouterConfig, dim: int, experts: int) -> None:
        super().__init__()
        config.check(experts)
        self.config = config
        self.inputs, self.outputs = dim, experts
        self.weight = nn.Parameter(torch.zeros(experts, dim))

    @property
    def idle(self) -> float:
        """Return how many of its numbers a token does not use."""
        return self.weight.numel() * max(0.0, 1 - self.active)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weight: normal with deviation 1/sqrt(dim), so that logits of normalised states have deviation 1."""
        weight = torch.empty(self.weight.shape).normal_(0.0, self.inputs**-0.5, generator=generator)
        with torch.no_grad():
            self.weight.copy_(weight)

    def forward(self, x: Tensor) -> Choice:
        """Choose for x (B, T, dim)."""
        logits = self.logits(x)
        choice = self.choose(logits)
        tally = current()
        if tally is not None:
            tally.entries.append((self, logits, choice))
            if not tally.again:
                self.count(choice)
        return choice

    def logits(self, x: Tensor) -> Tensor:
        """Return x W^T (B, T, E) in at least float32 (selective precision: Fedus et al. 2021, section 2.4)."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            return linear(x.to(dtype), self.weight.to(dtype))

    def choose(self, logits: Tensor) -> Choice:
        """Decide on logits (B, T, E)."""
        raise NotImplementedError

    def balance_loss(self, choice: Choice) -> Tensor:
        """Return the loss that is least for even loads, over all tokens at once."""
        return balance_loss(choice.scores.flatten(0, -2), choice.experts.flatten(0, -2))

    def count(self, choice: Choice) -> None:
        """Note a choice made in training."""

    def extra_repr(self) -> str:
        return f"{self.inputs} -> {self.outputs}, {self.per_token:g} per token"


def normalised(weights: Tensor, how: Normalise) -> Tensor:
    """Return weights (..., k) divided by their sum, or as they are."""
    return weights / (weights.sum(-1, keepdim=True) + 1e-20) if how == "sum" else weights
