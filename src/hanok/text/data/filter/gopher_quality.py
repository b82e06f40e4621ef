"""Gopher's quality rules: does a page read like prose?"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hanok.core.config import Config, PartConfig
from hanok.text.data.document import Verdict
from hanok.text.data.filter import FILTERS
from hanok.text.data.filter.base import PageFilter, hangul_share

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
KOREAN_WORDS = (
    "수", "이", "그", "것", "것이", "것은", "및", "등", "더", "또", "또한", "있는",
    "있다", "하는", "한다", "대한", "때", "이런", "그리고", "그러나", "하지만",
)  # fmt: skip
EDGES = ".,;:!?\"'()[]"
MOSTLY = 0.5  # the share of Hangul above which a page is judged as Korean


class Bounds(Config):
    """What depends on the language: how long words are, and which ones no page of prose goes without."""

    min_mean_length: float = Field(ge=0)
    max_mean_length: float = Field(gt=0)
    stop_words: tuple[str, ...]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_mean_length >= self.max_mean_length:
            raise ValueError("min_mean_length must be below max_mean_length")
        return self


@FILTERS.register("gopher_quality", paper="arXiv:2112.11446")
class GopherQuality(PageFilter):
    """Gopher's quality rules: word counts and lengths, symbols, bullets, ellipses, letters, stop words.

    Rae et al. 2021, appendix A.1.1, "Quality filtering": drop a page that has fewer than 50 or more than 100,000 words;
    a mean word length outside 3 to 10 characters; more than 0.1 hash signs, or ellipses, per word; more than 90 % of
    lines that begin with a bullet, or more than 30 % that end in an ellipsis; less than 80 % of words with a letter; or
    fewer than two of the words `the be to of and that have with`.

    The paper does not say what a word is: here a run of what is not white space, as in its word counts; those that
    hold neither letter nor digit count neither as words nor for the mean length (as in datatrove). Bullets are `•`, `-`
    and `*`; empty lines do not count, and stop words do in any case. A page of Hangul is judged by `korean`, whose
    bounds are ours and not the paper's: an eojeol has about three syllables, and particles are part of it. For
    languages that write no spaces these rules mean nothing: use others.
    """

    class Config(PartConfig):
        """The published thresholds."""

        kind: Literal["gopher_quality"] = "gopher_quality"
        min_words: int = Field(default=50, ge=0)
        max_words: int = Field(default=100_000, ge=1)
        max_symbols_per_word: float = Field(default=0.1, ge=0)
        max_bullet_lines: float = Field(default=0.9, ge=0, le=1)
        max_ellipsis_lines: float = Field(default=0.3, ge=0, le=1)
        min_letter_words: float = Field(default=0.8, ge=0, le=1)
        min_stop_words: int = Field(default=2, ge=0)
        general: Bounds = Bounds(min_mean_length=3, max_mean_length=10, stop_words=STOP_WORDS)
        korean: Bounds | None = Bounds(min_mean_length=1.8, max_mean_length=8, stop_words=KOREAN_WORDS)

    config: Config

    def judge(self, text: str) -> Verdict:
        """Return the rule that the text breaks."""
        words = text.split()
        return self._words(text, words) or self._symbols(text, words)

    def _words(self, text: str, words: list[str]) -> Verdict:
        config = self.config
        letters = [word.strip(EDGES).isalpha() or any(map(str.isalpha, word)) for word in words]  # the first is fast
        real = [word for word, letter in zip(words, letters, strict=True) if letter or any(map(str.isalnum, word))]
        if len(real) < max(config.min_words, 1):
            return "too few words"
        if len(real) > config.max_words:
            return "too many words"
        bounds = config.general
        if config.korean is not None and not text.isascii() and hangul_share(text) > MOSTLY:
            bounds = config.korean
        mean = sum(map(len, real)) / len(real)
        if mean < bounds.min_mean_length:
            return "short words"
        if mean > bounds.max_mean_length:
            return "long words"
        if sum(letters) / len(words) < config.min_letter_words:
            return "words without letters"
        if len(set(bounds.stop_words).intersection(map(str.lower, words))) < config.min_stop_words:
            return "no stop words"
        return None

    def _symbols(self, text: str, words: list[str]) -> Verdict:
        config, most = self.config, self.config.max_symbols_per_word * len(words)
        if text.count("#") > most:
            return "hash signs"
        if text.count("...") + text.count("…") > most:
            return "ellipses"
        lines = [line for line in map(str.strip, text.splitlines()) if line]
        if sum(line.startswith(("•", "-", "*")) for line in lines) > config.max_bullet_lines * len(lines):
            return "bullets"
        if sum(line.endswith(("...", "…")) for line in lines) > config.max_ellipsis_lines * len(lines):
            return "lines that end in an ellipsis"
        return None
