"""Next-token prediction, the objective of pre-training and, with zero weights on the prompt, of fine-tuning."""

from __future__ import annotations

from typing import Literal

from hanok.train.objective import OBJECTIVES
from hanok.train.objective.base import CrossEntropy, TokenConfig


@OBJECTIVES.register("clm")
class NextToken(CrossEntropy):
    """Next-token cross-entropy: the mean of -log p(target) over tokens, weighted by their weights.

    loss = sum_t w_t * -log p(y_t | y_<t) / sum_t w_t

    Routers add their balance and z losses, where their configuration gives these a weight.
    """

    class Config(TokenConfig):
        """Label smoothing, z-loss, and how logits are held."""

        kind: Literal["clm"] = "clm"
