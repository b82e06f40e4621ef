"""Masked language modelling: some tokens are hidden, and an encoder says what they were."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.text.data.changed import Change
from hanok.text.data.mask import Mask, Masking
from hanok.text.tokenizer import Tokenizer
from hanok.train.objective import OBJECTIVES
from hanok.train.objective.base import CrossEntropy, TokenConfig, sights


@OBJECTIVES.register("mlm", paper="Devlin et al. 2018, arXiv 1810.04805, section 3.1")
class MaskedTokens(CrossEntropy):
    """Masked language modelling: the mean of -log p(token | the corrupted text) over the tokens that were chosen.

    Of `rate` of the tokens, 80 % are replaced by the mask, 10 % by a random token, and 10 % stay as they are; which
    ones is drawn anew in every epoch (Liu et al. 2019, RoBERTa, arXiv 1907.11692, section 4.1).
    """

    class Config(TokenConfig):
        """The share of tokens that are chosen, singly or by whole words, and what becomes of them."""

        kind: Literal["mlm"] = "mlm"
        rate: float = Field(0.15, gt=0, lt=1)
        mask: float = Field(0.8, ge=0, le=1)
        random: float = Field(0.1, ge=0, le=1)
        unit: Literal["token", "word"] = "token"

        @model_validator(mode="after")
        def _shares(self) -> Self:
            if self.mask + self.random > 1:
                raise ValueError("mask and random are shares of the chosen tokens: together at most 1")
            return self

    def reads(self, tokenizer: Tokenizer) -> tuple[Tokenizer, Change | None]:
        """Return the tokenizer, which gets a mask token if it has none, and the masking."""
        config = self.config
        return Mask.prepare(tokenizer, Masking(config.rate, config.mask, config.random, config.unit))

    def fits(self, model: Model) -> None:
        """Refuse all but encoders."""
        if model.encoder is not None or sights(model) != {"all"}:
            raise UsageError(
                "the objective 'mlm' trains encoders, whose layers see the whole text (see: all), such as preset=bert"
            )
