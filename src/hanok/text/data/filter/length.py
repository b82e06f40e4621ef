"""Length: bounds on the characters, words and lines of a document."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hanok.core.config import PartConfig
from hanok.text.data.document import Verdict
from hanok.text.data.filter import FILTERS
from hanok.text.data.filter.base import PageFilter


@FILTERS.register("length", paper="arXiv:1911.00359")
class Length(PageFilter):
    """Too short or too long, in characters and in words.

    The code of CCNet (Wenzek et al. 2020, `min_len`) drops documents below 300 characters; here nothing is bounded
    unless asked for, except that a page must hold one character that is not white.
    """

    class Config(PartConfig):
        """Bounds, both ends included; `None` is no bound."""

        kind: Literal["length"] = "length"
        min_chars: int = Field(default=1, ge=1)
        max_chars: int | None = Field(default=None, ge=1)
        min_words: int = Field(default=0, ge=0)
        max_words: int | None = Field(default=None, ge=1)

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            for unit in ("chars", "words"):
                low, high = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
                if high is not None and low > high:
                    raise ValueError(f"min_{unit} {low} is above max_{unit} {high}")
            return self

    config: Config

    def judge(self, text: str) -> Verdict:
        """Return the bound that the text breaks."""
        config, size = self.config, len(text.strip())
        if size < config.min_chars:
            return "too few characters"
        if config.max_chars is not None and size > config.max_chars:
            return "too many characters"
        if not config.min_words and config.max_words is None:
            return None
        words = len(text.split())
        if words < config.min_words:
            return "too few words"
        if config.max_words is not None and words > config.max_words:
            return "too many words"
        return None
