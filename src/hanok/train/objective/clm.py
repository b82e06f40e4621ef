"""Next-token prediction, the objective of pre-training and, with zero weights on the prompt, of fine-tuning."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.core.config import PartConfig
from hanok.nn.router.tally import tallying
from hanok.text.batch import Batch
from hanok.train.objective import OBJECTIVES
from hanok.train.objective.policy import Metrics, Policy, counted_logits


@OBJECTIVES.register("clm")
class NextToken:
    """Next-token cross-entropy: the mean of -log p(target) over tokens, weighted by their weights.

    loss = sum_t w_t * -log p(y_t | y_<t) / sum_t w_t

    Routers add their balance and z losses, where their configuration gives these a weight.
    """

    class Config(PartConfig):
        """No options."""

        kind: Literal["clm"] = "clm"

    needs: tuple[str, ...] = ()

    def __init__(self, config: Config) -> None:
        self.config = config

    def count(self, batch: Batch) -> Tensor:
        """Return the sum of the weights."""
        return batch.weights.sum()

    def __call__(self, policy: Policy, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the loss, and the share of targets that were the likeliest token."""
        with tallying() as tally:
            logits_NV, where = counted_logits(policy, batch)
        targets = batch.targets.flatten().index_select(0, where)
        weights = batch.weights.flatten().index_select(0, where)
        total = weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        loss = (F.cross_entropy(logits_NV, targets, reduction="none") * weights).sum() / total
        with torch.no_grad():
            # A maximum is found several times as fast as its place.
            best = logits_NV.gather(-1, targets[:, None]).squeeze(-1) >= logits_NV.amax(-1)
            right = (best * weights).sum() / total
        metrics = {"mean_token_accuracy": right, **tally.metrics()}
        extra = tally.loss()
        if extra is None:
            return loss, metrics
        return loss + extra, {**metrics, "cross_entropy": loss.detach()}
