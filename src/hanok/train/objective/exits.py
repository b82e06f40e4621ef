"""Training for early exit: every exit predicts the next token too."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from hanok.core.config import PartConfig
from hanok.core.errors import UsageError
from hanok.model.exit import states
from hanok.model.model import Model
from hanok.nn.context import Dense
from hanok.nn.router.tally import tallying
from hanok.text.batch import Batch
from hanok.train.objective import OBJECTIVES
from hanok.train.objective.base import TokenMean
from hanok.train.objective.policy import Metrics, Policy


@OBJECTIVES.register("exits", paper="Schuster et al. 2022, arXiv 2207.07061")
class Exits(TokenMean):
    """Next-token prediction after several layers, by the model's own norm and head.

        loss = sum_l a_l L_l / sum_l a_l,    a_l = l    ("depth": CALM, later exits count for more)
                                             a_l = 1    ("even")

    over the exits and the last layer; L_l is the cross-entropy of head(norm(x_l)), weighted by the tokens' weights.
    """

    class Config(PartConfig):
        """After which `layers` there are exits (the last layer is one without being named)."""

        kind: Literal["exits"] = "exits"
        layers: tuple[int, ...] = Field(min_length=1)
        weigh: Literal["depth", "even"] = "depth"

    def __call__(self, policy: Policy, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the loss, and each exit's loss and share of likeliest tokens that were right."""
        if not isinstance(policy, Model):
            raise UsageError("the objective 'exits' trains a Model, whose layers it looks into")
        depth = policy.config.depth
        layers = sorted({*self.config.layers, depth})
        if layers[0] < 1 or layers[-1] > depth:
            raise UsageError(f"the objective 'exits': exits lie after layers 1 to {depth} of this model, not {layers}")
        where = batch.weights.flatten().nonzero()[:, 0]
        targets, weights = batch.targets.flatten()[where], batch.weights.flatten()[where]
        total = weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        share = {layer: layer if self.config.weigh == "depth" else 1 for layer in layers}
        metrics: Metrics = {}
        loss = weights.new_zeros(())
        with tallying() as tally:
            found = states(policy, batch.tokens, Dense(batch.tokens, batch.positions, batch.segments), layers)
            for layer, hidden in zip(layers, found, strict=True):
                logits = policy.logits(hidden.flatten(0, 1).index_select(0, where)).float()
                term = (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / total
                right = ((logits.detach().argmax(-1) == targets) * weights).sum() / total
                metrics |= {f"exits/{layer}_cross_entropy": term.detach(), f"exits/{layer}_accuracy": right}
                loss = loss + share[layer] / sum(share.values()) * term
        metrics |= {"mean_token_accuracy": right, "cross_entropy": term.detach()}
        routed = tally.loss()
        return loss if routed is None else loss + routed, {**metrics, **tally.metrics()}
