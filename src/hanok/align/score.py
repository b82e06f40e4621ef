"""Log-probs of whole batches under a model that does not learn: references, computed once."""

from __future__ import annotations

import torch
from torch import Tensor

from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.train.objective.policy import counted_logits, token_logprobs


def token_scores(model: Model, batch: Batch) -> Tensor:
    """Return log p of each target as (B, T), zero where the weight is zero; the numerics in force apply."""
    with torch.no_grad():
        here = batch.to(model.device)
        logits, where = counted_logits(model, here)
        return token_logprobs(logits, here, where).to(batch.tokens.device)


def row_scores(model: Model, batch: Batch) -> Tensor:
    """Return the weighted sum of the log-probs of each row's targets as (B,)."""
    return (token_scores(model, batch) * batch.weights).sum(-1)
