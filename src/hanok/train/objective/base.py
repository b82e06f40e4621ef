"""What objectives over tokens share: the mean over weighted targets, its options, and what pre-training asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from hanok.core.config import PartConfig
from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.nn.router.tally import tallying
from hanok.ops.linear_cross_entropy import Losses, Penalty, cross_entropy, linear_cross_entropy
from hanok.text.batch import Batch
from hanok.text.data.changed import Change
from hanok.text.tokenizer import Tokenizer
from hanok.train.objective.policy import Headed, Metrics, Policy, column, counted_states

MANY = 2**27  # logits (N V) from which on "auto" makes them in pieces: half a gigabyte in float32, held three times


class TokenMean:
    """A loss that is a mean over targets, weighted by their weights."""

    needs: tuple[str, ...] = ()

    def __init__(self, config: Any) -> None:
        self.config = config

    def count(self, batch: Batch) -> Tensor:
        """Return the sum of the weights."""
        return batch.weights.sum()

    def __call__(self, policy: Policy, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the loss and detached metrics."""
        raise NotImplementedError

    def reads(self, tokenizer: Tokenizer) -> tuple[Tokenizer, Change | None]:
        """Return the tokenizer with what marks this objective adds, and what makes its batches of plain windows."""
        return tokenizer, None

    def start(self, tokenizer: Tokenizer) -> int | None:
        """Return the id that a decoder with an encoder begins with; None where there is no encoder."""
        return None

    def fits(self, model: Model) -> None:
        """Refuse a model that could not learn by this objective, or would only seem to: it must see the past alone."""
        if model.encoder is not None:
            raise UsageError(
                f"the objective {self.name!r} is for decoders; an encoder-decoder learns by span_corruption"
            )
        if "all" in sights(model):
            raise UsageError(
                f"the objective {self.name!r} would be learned by looking: this model's layers see later tokens (see: "
                "all), the target among them; an encoder learns by mlm"
            )

    @property
    def name(self) -> str:
        """Return the word in the registry."""
        return str(self.config.kind)


class TokenConfig(PartConfig):
    """`label_smoothing` of the target over all tokens, `z_loss` for log^2 of the normaliser (PaLM: 1e-4).

    `logits` are held "whole", or made in "pieces" of some rows each, which saves most of the memory of the loss; "auto"
    takes pieces where whole logits would be large.
    """

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    z_loss: float = Field(0.0, ge=0)
    logits: Literal["auto", "whole", "pieces"] = "auto"


class CrossEntropy(TokenMean):
    """The mean of -log p(target), whatever the batch's tokens, targets and weights are."""

    def __call__(self, policy: Policy, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the loss, and the share of targets that were the likeliest token."""
        config = self.config
        for name in self.needs:
            column(batch, name, self.name)
        penalty = Penalty(config.label_smoothing, config.z_loss)
        with tallying() as tally:
            states_ND, where = counted_states(policy, batch)
            targets = batch.targets.flatten().index_select(0, where)
            weights = batch.weights.flatten().index_select(0, where)
            losses = summed(policy, states_ND, config.logits)(targets, weights, penalty)
        total = weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        loss = losses.loss / total
        metrics = {"mean_token_accuracy": losses.hits / total, **tally.metrics()}
        if config.z_loss:
            metrics["z_loss"] = config.z_loss * losses.square / total
        extra = tally.loss()
        if extra is not None or config.z_loss or config.label_smoothing:
            metrics["cross_entropy"] = losses.nll / total
        return (loss if extra is None else loss + extra), metrics


def summed(policy: Policy, states_ND: Tensor, how: str) -> Callable[[Tensor, Tensor, Penalty], Losses]:
    """Return what makes the sums over rows of (targets, weights, penalty), with logits whole or in pieces."""
    plain = policy.before_head(states_ND) if how != "whole" and isinstance(policy, Headed) else None
    if plain is None and how == "pieces":
        raise UsageError("objective.logits 'pieces' needs a head that is a plain matrix: use 'auto' or 'whole'")
    if plain is not None and (how == "pieces" or len(states_ND) * plain[1].weight.shape[0] > MANY):
        x_ND, head = plain
        return lambda targets, weights, penalty: linear_cross_entropy(x_ND, head, targets, weights, penalty)
    logits_NV = policy.logits(states_ND)
    return lambda targets, weights, penalty: cross_entropy(logits_NV, targets, weights, penalty)


def sights(model: Model) -> set[str]:
    """Return what the layers of a model's main stack see: "past", "all", or both."""
    return {str(getattr(getattr(block.mixer, "config", None), "see", "past")) for block in model.blocks}
