"""The clipped surrogate of policy-gradient methods: PPO's ratio without a critic, in its group-relative family."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hanok.core.config import PartConfig
from hanok.text.batch import Batch
from hanok.train.objective import OBJECTIVES
from hanok.train.objective.policy import Metrics, Policy, column, counted_logits, token_logprobs


@OBJECTIVES.register("grpo", paper="arXiv:2402.03300")
class GRPO:
    """Clipped surrogate with per-token advantages, as GRPO, DAPO and Dr. GRPO share it.

    Columns (B, T): `advantages`, `old_logprobs` (of the policy that sampled), and `reference` when `beta` > 0.

        r = exp(log p - old);  k3 = exp(ref - log p) - (ref - log p) - 1
        l_t = -min(r A, clip(r, 1 - low, 1 + high) A) + beta k3
        loss = sum l_t / tokens                            aggregate = "token"     (DAPO, arXiv:2503.14476)
             = mean over rows of the mean over tokens                  "sequence"  (GRPO)
             = sum l_t / (rows * max_tokens)                           "constant"  (Dr. GRPO, arXiv:2503.20783)
    """

    class Config(PartConfig):
        """Clip range, KL weight, and the word that says what the loss is a mean over."""

        kind: Literal["grpo"] = "grpo"
        epsilon_low: float = Field(0.2, gt=0, lt=1)
        epsilon_high: float = Field(0.2, gt=0)
        beta: float = Field(0.0, ge=0)
        aggregate: Literal["token", "sequence", "constant"] = "token"
        max_tokens: int = Field(0, ge=0, description="completion budget, the divisor of 'constant'")

        @model_validator(mode="after")
        def _divisor(self) -> Self:
            if (self.aggregate == "constant") != (self.max_tokens > 0):
                raise ValueError("max_tokens is the divisor of the aggregate 'constant': give both or neither")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config
        self.needs: tuple[str, ...] = ("advantages", "old_logprobs", *(("reference",) if config.beta else ()))

    def count(self, batch: Batch) -> Tensor:
        """Return the number of tokens or of rows, whichever the loss is a mean over."""
        if self.config.aggregate == "token":
            return batch.weights.sum()
        return (batch.weights.sum(-1) > 0).sum().to(batch.weights.dtype)

    def __call__(self, policy: Policy, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the loss, and TRL's figures about KL, clipping and entropy."""
        logits_NV, where = counted_logits(policy, batch)
        logps = token_logprobs(logits_NV, batch, where)
        advantages, weights = column(batch, "advantages", "grpo"), batch.weights
        counted = (weights > 0).to(logps.dtype)
        log_ratio = (logps - column(batch, "old_logprobs", "grpo")) * counted
        ratio = log_ratio.exp()
        low, high = 1 - self.config.epsilon_low, 1 + self.config.epsilon_high
        loss_BT = -torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)
        tokens = weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        with torch.no_grad():
            is_low, is_high = (ratio < low) & (advantages < 0), (ratio > high) & (advantages > 0)
            logp_NV = torch.log_softmax(logits_NV, -1)
            entropy = -(logp_NV.exp() * logp_NV).sum(-1) @ weights.flatten().index_select(0, where) / tokens
            metrics = {
                "entropy": entropy,
                "clip_ratio/low_mean": (is_low * weights).sum() / tokens,
                "clip_ratio/high_mean": (is_high * weights).sum() / tokens,
                "clip_ratio/region_mean": ((is_low | is_high) * weights).sum() / tokens,
                "ratio/max": (ratio * counted).max(),
                "ratio/min": torch.where(counted > 0, ratio, torch.inf).min(),
            }
        if self.config.beta:
            drift = (column(batch, "reference", "grpo") - logps) * counted
            k3_BT = drift.exp() - drift - 1
            loss_BT = loss_BT + self.config.beta * k3_BT
            metrics["kl"] = ((k3_BT * weights).sum() / tokens).detach()
        return self._aggregate(loss_BT * weights, weights), metrics

    def _aggregate(self, loss_BT: Tensor, weights: Tensor) -> Tensor:
        tiny = torch.finfo(weights.dtype).tiny
        if self.config.aggregate == "token":
            return loss_BT.sum() / weights.sum().clamp_min(tiny)
        length = weights.sum(-1)
        rows = (length > 0).sum().clamp_min(1)
        if self.config.aggregate == "sequence":
            return (loss_BT.sum(-1) / length.clamp_min(tiny)).sum() / rows
        return loss_BT.sum() / (rows * self.config.max_tokens)
