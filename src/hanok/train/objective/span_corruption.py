"""Span corruption: an encoder reads a text with holes, and a decoder writes what was in them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.text.data.changed import Change
from hanok.text.data.spans import Spans, start_of
from hanok.text.tokenizer import Tokenizer
from hanok.train.objective import OBJECTIVES
from hanok.train.objective.base import CrossEntropy, TokenConfig


@OBJECTIVES.register("span_corruption", paper="Raffel et al. 2019, arXiv 1910.10683, section 3.1.4")
class SpanCorruption(CrossEntropy):
    """Span corruption: the mean of -log p(target | earlier targets, source) over the text that was taken out.

        text    Thank you for inviting me to your party last week .
        source  Thank you <0> me to your party <1> week .
        target  <0> for inviting <1> last

    The column `source` (B,S) is what the encoder reads, `source_seen` (B,S) tells tokens from padding.
    """

    class Config(TokenConfig):
        """The share of tokens taken out, the mean length of a span, and how many marks the vocabulary has for them."""

        kind: Literal["span_corruption"] = "span_corruption"
        rate: float = Field(0.15, gt=0, lt=1)
        span: float = Field(3.0, ge=1)
        sentinels: int = Field(100, ge=1)

    needs: tuple[str, ...] = ("source",)

    def reads(self, tokenizer: Tokenizer) -> tuple[Tokenizer, Change | None]:
        """Return the tokenizer with marks for spans, and what cuts them out."""
        config = self.config
        return Spans.prepare(tokenizer, rate=config.rate, mean=config.span, sentinels=config.sentinels)

    def start(self, tokenizer: Tokenizer) -> int | None:
        """Return the id that the decoder begins with."""
        return start_of(tokenizer)

    def fits(self, model: Model) -> None:
        """Refuse a model without an encoder."""
        if model.encoder is None:
            raise UsageError("the objective 'span_corruption' trains encoder-decoders, such as preset=transformer")
