"""Multi-token prediction: next-token prediction, and the same asked of the modules that predict further ahead."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from hanok.core.config import PartConfig
from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.model.mtp import shifted
from hanok.nn.context import Dense
from hanok.nn.router.tally import tallying
from hanok.text.batch import Batch
from hanok.train.objective import OBJECTIVES
from hanok.train.objective.base import TokenMean
from hanok.train.objective.policy import Metrics, Policy


@OBJECTIVES.register("mtp", paper="DeepSeek-AI 2024, arXiv 2412.19437")
class MultiToken(TokenMean):
    """Next-token prediction plus `weight` times the mean loss of the D modules that predict 1 to D tokens further.

        loss = L_0 + weight / D * sum_k L_k,    L_k = sum_i w_{i+k} * -log p_k(y_{i+k} | t_{<=i+k}) / sum_i w_i

    (section 2.2, equations 24 and 25: every L_k is divided by the weight of all targets). A token whose target k places
    on lies in another document of its row has no such term. DeepSeek-V3 trained with a weight of 0.3, then 0.1.
    """

    class Config(PartConfig):
        """What the modules' loss counts for."""

        kind: Literal["mtp"] = "mtp"
        weight: float = Field(0.3, ge=0)

    def __call__(self, policy: Policy, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the loss, its part by depth, and the share of targets that each depth found likeliest."""
        if not isinstance(policy, Model) or policy.mtp is None:
            raise UsageError("the objective 'mtp' trains a model that was built with mtp (ModelConfig.mtp)")
        ctx, metrics = Dense(batch.tokens, batch.positions, batch.segments), Metrics()
        total = batch.weights.sum().clamp_min(torch.finfo(batch.weights.dtype).tiny)
        depths = len(policy.mtp)
        with tallying() as tally:
            hidden = policy.hidden(batch.tokens, ctx)
            loss, right = _term(policy, hidden, batch, 0, total)
            metrics |= {"mean_token_accuracy": right, "cross_entropy": loss.detach()}
            for k in range(1, depths + 1):
                hidden = policy.ahead(hidden, shifted(batch.tokens, k), ctx, depth=k)
                extra, right = _term(policy, hidden, batch, k, total)
                metrics |= {f"mtp/{k}_accuracy": right, f"mtp/{k}_cross_entropy": extra.detach()}
                loss = loss + self.config.weight / depths * extra
        routed = tally.loss()
        return loss if routed is None else loss + routed, {**metrics, **tally.metrics()}


def _term(policy: Policy, hidden: Tensor, batch: Batch, k: int, total: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of predicting k tokens further than the next, and how often the likeliest token was right."""
    weights = shifted(batch.weights, k)
    if batch.segments is not None:
        weights = weights * (shifted(batch.segments, k, -1) == batch.segments)
    where = weights.flatten().nonzero()[:, 0]
    logits = policy.logits(hidden.flatten(0, 1).index_select(0, where)).float()
    targets, weights = shifted(batch.targets, k).flatten()[where], weights.flatten()[where]
    loss = (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / total
    counted = weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    return loss, ((logits.detach().argmax(-1) == targets) * weights).sum() / counted
