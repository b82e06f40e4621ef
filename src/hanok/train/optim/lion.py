"""Lion: the sign of an interpolated momentum, one number of state per weight."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.base import Growths, Slot
from hanok.train.optim.each import Each, EachConfig, Held


class LionConfig(EachConfig):
    """A rate three to ten times smaller than AdamW's, and a decay as many times larger (section 5 of the paper)."""

    kind: Literal["lion"] = "lion"
    lr: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(0.3, ge=0)


@OPTIMIZERS.register("lion", paper="arXiv:2302.06675")
class Lion(Each):
    """Evolved sign momentum: every weight moves by the same amount, in the direction of its momentum.

    u = sign(b1 m + (1 - b1) g);  m = b2 m + (1 - b2) g;  p = p (1 - lr wd) - lr u
    """

    Config = LionConfig
    kind = "lion"

    def __init__(self, config: LionConfig, model: nn.Module, growth: Growths | None = None) -> None:
        super().__init__(config, model, growth)
        self.config = config

    def fresh(self, slot: Slot) -> Held:
        return {"momentum": self.zeros(slot)}

    def change(self, slot: Slot, grad: Tensor, held: Held, lr: float) -> Tensor:
        first, second = self.config.betas
        move = torch.lerp(held["momentum"], grad, 1 - first).sign_()
        held["momentum"].lerp_(grad, 1 - second)
        return move.mul_(lr * slot.growth.by_sign)
