"""Adafactor: second moments of a matrix kept as one row and one column, steps relative to the weights' size."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.base import Growths, Slot, whole
from hanok.train.optim.each import Each, EachConfig, Held


class AdafactorConfig(EachConfig):
    """A relative rate: a weight of typical size 0.1 moves by up to 0.1 lr. `tiny` (default: the dtype's) and `least`
    are the paper's two epsilons, `bound` its clipping threshold d, `power` the exponent of b2 = 1 - t^-power.
    """

    kind: Literal["adafactor"] = "adafactor"
    lr: float = Field(1e-2, gt=0)
    power: float = Field(0.8, gt=0, le=1)
    tiny: float | None = Field(None, gt=0)
    least: float = Field(1e-3, gt=0)
    bound: float = Field(1.0, gt=0)


@OPTIMIZERS.register("adafactor", paper="arXiv:1804.04235")
class Adafactor(Each):
    """Adam without momentum whose second moment of an (n, m) matrix is n + m numbers: V ~ r c / mean(r).

        r = b r + (1 - b) mean_columns(G^2);  c = b c + (1 - b) mean_rows(G^2);  b = 1 - t^-0.8
        U = G / sqrt(V);  p = p (1 - lr wd) - max(least, rms(p)) min(lr, 1 / sqrt t) U / max(1, rms(U) / bound)

    Stacked matrices (experts) are factored one by one; vectors keep a second moment per entry.
    """

    Config = AdafactorConfig
    kind = "adafactor"
    entrywise = False

    def __init__(self, config: AdafactorConfig, model: nn.Module, growth: Growths | None = None) -> None:
        super().__init__(config, model, growth)
        self.config = config

    def fresh(self, slot: Slot) -> Held:
        shape = slot.parameter.shape
        if len(shape) < 2:
            return {"square": self.zeros(slot)}
        return {"rows": self.zeros(slot, *shape[:-1], 1), "columns": self.zeros(slot, *shape[:-2], 1, shape[-1])}

    def change(self, slot: Slot, grad: Tensor, held: Held, lr: float) -> Tensor:
        step, config = self.moved(slot), self.config
        tiny = torch.finfo(grad.dtype).eps if config.tiny is None else config.tiny
        fresh = math.pow(step, -config.power)
        if grad.ndim < 2:
            square = held["square"].lerp_(grad.square(), fresh).clone()
        else:
            rows = held["rows"].lerp_(grad.square().mean(-1, keepdim=True), fresh)
            columns = held["columns"].lerp_(grad.square().mean(-2, keepdim=True), fresh)
            square = rows @ columns / rows.mean(-2, keepdim=True).clamp_min(tiny)
        update = square.clamp_min_(tiny * tiny).rsqrt_().mul_(grad)
        size = _rms(whole(slot.parameter)).clamp_min(config.least) / (_rms(update) / config.bound).clamp_min(1.0)
        # The weights' own size, by which a step is measured, has already shrunk with the width.
        pace = slot.growth.by_sign / slot.growth.start
        return update.mul_(size * min(lr, 1 / math.sqrt(step)) * pace)


def _rms(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x)
    return norm / math.sqrt(x.numel())
