"""Sophia: momentum divided by a clipped estimate of the curvature, which looks at labels drawn from the model."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from hanok.core.rng import derive
from hanok.text.batch import Batch
from hanok.train.objective.policy import Metrics, Objective, Policy, counted_logits
from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.base import Growths, Slot
from hanok.train.optim.each import Each, EachConfig, Held


class SophiaConfig(EachConfig):
    """`every` so many steps the curvature is estimated anew, at the cost of one more backward; `gamma` is how much of
    it counts: so small that most entries are clipped is a sign step, so large that few are is a Newton step.
    """

    kind: Literal["sophia"] = "sophia"
    lr: float = Field(3e-4, gt=0)
    betas: tuple[float, float] = (0.96, 0.99)
    gamma: float = Field(0.05, gt=0)
    eps: float = Field(1e-12, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    every: int = Field(10, ge=1)
    seed: int = 0


@OPTIMIZERS.register("sophia", paper="arXiv:2305.14342")
class Sophia(Each):
    """Sophia-G: second-order clipped steps with the Gauss-Newton-Bartlett estimate of the Hessian's diagonal.

        h = b2 h + (1 - b2) B q^2, q the gradient of the mean loss of B tokens whose labels the model itself has drawn
        m = b1 m + (1 - b1) g;  p = p (1 - lr wd) - lr clip(m / max(gamma h, eps), 1)

    For objectives whose loss is a cross-entropy of the batch's targets.
    """

    Config = SophiaConfig
    kind = "sophia"

    def __init__(self, config: SophiaConfig, model: nn.Module, growth: Growths | None = None) -> None:
        super().__init__(config, model, growth)
        self.config, self._steps = config, 0

    def probe(self, rank: int) -> Objective | None:
        """Return the loss on drawn labels in the first of every so many steps."""
        if self._steps % self.config.every:
            return None
        return DrawnTargets(derive(self.config.seed, f"sophia/{self._steps}/{rank}"))

    @torch.no_grad()
    def observe(self, count: float) -> None:
        """Take the gradient's square into the estimate."""
        kept = self.config.betas[1]
        for slot in self.slots:
            if (grad := slot.parameter.grad) is not None:
                self.held(slot)["curvature"].mul_(kept).addcmul_(grad, grad, value=(1 - kept) * count)

    def step(self, factor: float) -> None:
        """Move every parameter that has a gradient."""
        super().step(factor)
        self._steps += 1

    def fresh(self, slot: Slot) -> Held:
        return {"momentum": self.zeros(slot), "curvature": self.zeros(slot)}

    def change(self, slot: Slot, grad: Tensor, held: Held, lr: float) -> Tensor:
        momentum = held["momentum"].lerp_(grad, 1 - self.config.betas[0])
        curvature = (self.config.gamma * held["curvature"]).clamp_min_(self.config.eps)
        return (momentum / curvature).clamp_(-1, 1).mul_(lr * slot.growth.by_sign)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return both averages of each parameter, and the number of steps."""
        tensors, data = super().state()
        return tensors, {**data, "steps": self._steps}

    def restore(self, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        """Go back to a saved state."""
        super().restore(tensors, data)
        self._steps = int(data["steps"])


class DrawnTargets:
    """Cross-entropy of labels that the model itself draws: the square of its gradient estimates the curvature."""

    needs: tuple[str, ...] = ()

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def count(self, batch: Batch) -> Tensor:
        """Return the sum of the weights."""
        return batch.weights.sum()

    def __call__(self, policy: Policy, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the mean loss; one random number per token, so that a split batch draws what the whole one does."""
        logits_NV, where = counted_logits(policy, batch)
        weights = batch.weights.flatten().index_select(0, where)
        with torch.no_grad():
            below_NV = logits_NV.softmax(-1).cumsum(-1)
            point_N = torch.rand(len(where), generator=self._generator).to(below_NV.device) * below_NV[:, -1]
            drawn_N = torch.searchsorted(below_NV, point_N[:, None]).squeeze(-1).clamp_max(below_NV.shape[-1] - 1)
        total = weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        return (F.cross_entropy(logits_NV, drawn_N, reduction="none") * weights).sum() / total, {}
