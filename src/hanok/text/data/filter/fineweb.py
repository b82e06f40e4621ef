"""FineWeb's own rules: lists, menus and repeated lines that the older rules let through."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hanok.core.config import PartConfig
from hanok.text.data.document import Verdict
from hanok.text.data.filter import FILTERS
from hanok.text.data.filter.base import QUOTES, TERMINAL, PageFilter, repeated


@FILTERS.register("fineweb", paper="arXiv:2406.17557")
class FineWeb(PageFilter):
    """FineWeb's rules: few lines that end a sentence, many short ones, repeated ones, lists.

    Penedo et al. 2024, section 3.6: drop a page if at most 0.12 of its lines end in a terminal mark, if at least 0.1 of
    its characters stand in repeated lines, or if at least 0.67 of its lines have fewer than 30 characters. From the
    code of the authors (datatrove) comes the fourth: more than 0.3 line breaks per word; there the second is 0.01 and
    each bound has its equal on the other side. Empty lines do not count. `strict_marks` counts a line that ends in a
    quotation mark or bracket behind its mark as one without, as the authors' code does.
    """

    class Config(PartConfig):
        """The published thresholds, at which a page is dropped."""

        kind: Literal["fineweb"] = "fineweb"
        ended_lines: float = Field(default=0.12, ge=0, le=1)
        repeated_chars: float = Field(default=0.1, gt=0, le=1)
        short_lines: float = Field(default=0.67, gt=0, le=1)
        short_line: int = Field(default=30, ge=1)
        breaks_per_word: float = Field(default=0.3, gt=0)
        strict_marks: bool = False

    config: Config

    def judge(self, text: str) -> Verdict:
        """Return the rule that the text breaks."""
        config = self.config
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines:
            return "empty"
        tails = lines if config.strict_marks else [line.rstrip().rstrip(QUOTES) for line in lines]
        if sum(tail.endswith(TERMINAL) for tail in tails) <= config.ended_lines * len(lines):
            return "lines without a terminal mark"
        if sum(len(line) < config.short_line for line in lines) >= config.short_lines * len(lines):
            return "short lines"
        if repeated(lines)[1] >= config.repeated_chars * sum(map(len, lines)):
            return "characters in repeated lines"
        if text.count("\n") > config.breaks_per_word * len(text.split()):
            return "line breaks"
        return None
