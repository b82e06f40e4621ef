"""Perplexity: how strange a page is to a language model that knows good text."""

from __future__ import annotations

from typing import Literal, Protocol, Self

from pydantic import Field, model_validator

from hanok.core.config import PartConfig
from hanok.core.errors import UsageError
from hanok.text.data.byte_ngram import ByteNGram
from hanok.text.data.document import Verdict
from hanok.text.data.filter import FILTERS
from hanok.text.data.filter.base import PageFilter


class Scorer(Protocol):
    """Says how many bits a text costs per byte."""

    def bits_per_byte(self, text: str) -> float:
        """Return the mean of -log2 p over the bytes of a text."""
        ...


@FILTERS.register("perplexity", paper="arXiv:1911.00359")
class Perplexity(PageFilter):
    """Drops pages that an n-gram of good text finds too strange, or too plain.

    CCNet (Wenzek et al. 2020, "LM filtering") scores pages by a 5-gram of Wikipedia and splits them at two percentiles
    of the perplexity; bounds mean nothing without the model and the language they were measured on, so there is no
    published default: `ByteNGram.percentiles` gives them for a sample. Bits per byte are log2 of the perplexity per
    byte, comparable across tokenizers. Very low values are boilerplate and repetition.
    """

    class Config(PartConfig):
        """A saved `ByteNGram`, and the bounds in bits per byte."""

        kind: Literal["perplexity"] = "perplexity"
        model: str = ""
        max_bits: float | None = Field(default=None, gt=0)
        min_bits: float = Field(default=0.0, ge=0)

        @model_validator(mode="after")
        def _bounded(self) -> Self:
            if self.max_bits is None and not self.min_bits:
                raise ValueError("give max_bits or min_bits (bits per byte); without a bound nothing is dropped")
            if self.max_bits is not None and self.max_bits <= self.min_bits:
                raise ValueError(f"max_bits {self.max_bits} must be above min_bits {self.min_bits}")
            return self

    config: Config

    def __init__(self, config: Config, scorer: Scorer | None = None) -> None:
        super().__init__(config)
        if scorer is None and not config.model:
            raise UsageError("the filter 'perplexity' needs a model: the path of a saved byte n-gram")
        self._scorer = ByteNGram.load(config.model) if scorer is None else scorer

    def judge(self, text: str) -> Verdict:
        """Return the bound that the text breaks."""
        bits = self._scorer.bits_per_byte(text)
        if self.config.max_bits is not None and bits > self.config.max_bits:
            return "high perplexity"
        return "low perplexity" if bits < self.config.min_bits else None
