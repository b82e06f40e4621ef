"""Gopher's repetition rules: does a page say the same thing again and again?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hanok.core.config import PartConfig
from hanok.text.data.document import Verdict
from hanok.text.data.filter import FILTERS
from hanok.text.data.filter.base import PageFilter, repeated
from hanok.text.data.words import BASE, Words, written_words

PARAGRAPHS = re.compile(r"\n{2,}")
LINES = re.compile(r"\n+")

Ints = npt.NDArray[np.integer[Any]]


@FILTERS.register("gopher_repetition", paper="arXiv:2112.11446")
class GopherRepetition(PageFilter):
    """Gopher's repetition rules: repeated lines, paragraphs and n-grams of words.

    Rae et al. 2021, table A1, shares above which a page is dropped: repeated lines 0.30 and paragraphs 0.30; characters
    in repeated lines 0.20 and paragraphs 0.20; characters in the most common 2-gram 0.20, 3-gram 0.18, 4-gram 0.16;
    characters in n-grams that came before: 0.15, 0.14, 0.13, 0.12, 0.11, 0.10 for n = 5 to 10, none counted twice.
    An n-gram that occurs once is no repetition, however long its words are (the paper leaves this open). A word is a
    run of what is not white space.
    """

    class Config(PartConfig):
        """The published thresholds, as shares; n-grams by their n."""

        kind: Literal["gopher_repetition"] = "gopher_repetition"
        lines: float = Field(default=0.30, ge=0, le=1)
        paragraphs: float = Field(default=0.30, ge=0, le=1)
        line_chars: float = Field(default=0.20, ge=0, le=1)
        paragraph_chars: float = Field(default=0.20, ge=0, le=1)
        top_ngrams: dict[int, float] = {2: 0.20, 3: 0.18, 4: 0.16}
        repeated_ngrams: dict[int, float] = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

    config: Config

    def judge(self, text: str) -> Verdict:
        """Return the rule that the text breaks."""
        if not text.strip():
            return "empty"
        return self._pieces(text) or self._ngrams(text)

    def _pieces(self, text: str) -> Verdict:
        config, size = self.config, len(text)
        paragraphs = PARAGRAPHS.split(text.strip())
        count, chars = repeated(paragraphs)
        if count > config.paragraphs * len(paragraphs):
            return "repeated paragraphs"
        if chars > config.paragraph_chars * size:
            return "characters in repeated paragraphs"
        lines = LINES.split(text.strip("\n"))
        count, chars = repeated(lines)
        if count > config.lines * len(lines):
            return "repeated lines"
        if chars > config.line_chars * size:
            return "characters in repeated lines"
        return None

    def _ngrams(self, text: str) -> Verdict:
        config, size, words = self.config, len(text), written_words(text)
        for grams in grow(words, {*config.top_ngrams, *config.repeated_ngrams}):
            if grams.n in config.top_ngrams and grams.top_chars() > config.top_ngrams[grams.n] * size:
                return f"most common {grams.n}-gram"
            if grams.n in config.repeated_ngrams and grams.repeated_chars() > config.repeated_ngrams[grams.n] * size:
                return f"repeated {grams.n}-grams"
        return None


@dataclass(frozen=True)
class Repeats:
    """The n-grams of a text that occur more than once: where each begins, which one it is, and how often it occurs."""

    n: int
    places: Ints
    which: Ints
    counts: Ints
    ends: Ints  # where the words end if they are joined without spaces, with a leading 0

    def chars(self, place: int) -> int:
        """Return the characters of the n-gram's words."""
        return int(self.ends[place + self.n] - self.ends[place])

    def top_chars(self) -> int:
        """Return the characters in all occurrences of the most common n-gram (the first of several), with spaces."""
        often = self.counts[self.which]
        most = int(often.max())
        place = int(self.places[np.argmax(often)])  # places ascend, so that this is the first
        return (self.chars(place) + self.n - 1) * most

    def repeated_chars(self) -> int:
        """Return the characters in n-grams that occurred before, reading on behind each one that is counted."""
        seen: set[int] = set()
        free = size = 0
        for place, key in zip(self.places.tolist(), self.which.tolist(), strict=True):
            if place < free:
                continue
            if key in seen:
                size += self.chars(place)
                free = place + self.n
            else:
                seen.add(key)
        return size


def grow(words: Words, sizes: Iterable[int]) -> Iterator[Repeats]:
    """Yield the repeated n-grams of each size, small ones first.

    An n-gram can only repeat if the one without its last word does, so that each size looks at what is left of the
    last: for most texts next to nothing. Sizes at which nothing repeats are left out.
    """
    wanted = sorted(sizes)
    ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(words.ends - words.starts)])
    places = np.arange(len(words))
    keys = words.hashes
    for n in range(1, wanted[-1] + 1 if wanted else 0):
        if n > 1:
            inside = places + n <= len(words)
            places = places[inside]
            keys = keys[inside] * BASE + words.hashes[places + n - 1]
        if n < wanted[0]:
            continue
        _, which, counts = np.unique(keys, return_inverse=True, return_counts=True)
        again = counts[which] > 1
        places, keys, which = places[again], keys[again], which[again]
        if not len(places):
            return
        if n in wanted:
            yield Repeats(n, places, which, counts, ends)
