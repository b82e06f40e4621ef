"""Direct preference optimisation."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from hanok.core.config import PartConfig
from hanok.text.batch import Batch
from hanok.train.objective import OBJECTIVES
from hanok.train.objective.policy import Metrics, Policy, column, counted_logits, token_logprobs


@OBJECTIVES.register("dpo", paper="arXiv:2305.18290")
class DPO:
    """Direct preference optimisation: prefer the chosen answer, measured against a frozen reference.

    Rows 2i and 2i+1 are the chosen and the rejected answer of one prompt; the column `reference` (B,) holds the
    reference's log-prob of each row's answer.

        h = (log p_c - ref_c) - (log p_r - ref_r)
        loss = mean[-(1 - s) log sigmoid(beta h) - s log sigmoid(-beta h)]      (s: label smoothing, "conservative DPO")
    """

    class Config(PartConfig):
        """Temperature `beta` of the implicit reward, and the share of labels taken to be wrong."""

        kind: Literal["dpo"] = "dpo"
        beta: float = Field(0.1, gt=0)
        label_smoothing: float = Field(0.0, ge=0, lt=0.5)

    needs: tuple[str, ...] = ("reference",)

    def __init__(self, config: Config) -> None:
        self.config = config

    def count(self, batch: Batch) -> Tensor:
        """Return the number of pairs."""
        return batch.weights.new_tensor(batch.weights.shape[0] // 2)

    def __call__(self, policy: Policy, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the loss, and TRL's figures about rewards and log-probs."""
        logits_NV, where = counted_logits(policy, batch)
        logps = (token_logprobs(logits_NV, batch, where) * batch.weights).sum(-1)
        rewards = self.config.beta * (logps - column(batch, "reference", "dpo"))
        chosen, rejected = rewards[0::2], rewards[1::2]
        margin, smooth = chosen - rejected, self.config.label_smoothing
        loss = -((1 - smooth) * F.logsigmoid(margin) + smooth * F.logsigmoid(-margin)).mean()
        metrics = {
            "rewards/chosen": chosen.mean(),
            "rewards/rejected": rejected.mean(),
            "rewards/margins": margin.mean(),
            "rewards/accuracies": (margin > 0).float().mean(),
            "logps/chosen": logps[0::2].mean(),
            "logps/rejected": logps[1::2].mean(),
        }
        return loss, {name: value.detach() for name, value in metrics.items()}
