"""C4's rules: lines that are no sentences, and pages that are no text."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from hanok.core.config import PartConfig
from hanok.text.data.document import Verdict
from hanok.text.data.filter import FILTERS
from hanok.text.data.filter.base import QUOTES, TERMINAL, PageFilter

POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
# A sentence ends at a mark that white space or the end follows; abbreviations are counted wrong, as they are by most.
SENTENCE_END = re.compile(rf"[{re.escape(''.join(TERMINAL))}]+[{re.escape(QUOTES)}]*(?=\s|$)|[。！？]")


@FILTERS.register("c4", paper="arXiv:1910.10683")
class C4(PageFilter):
    """C4's page rules: placeholder text, curly brackets, bad words, and too few sentences in its good lines.

    Raffel et al. 2020, section 2.2: drop a page in which "lorem ipsum" or a curly bracket appears, that holds a word of
    a list of bad ones, or that keeps fewer than 3 sentences (5 in the first version of the paper, and in its code) when
    only lines count that end in a terminal mark, have at least 5 words (3 in the code), and speak neither of JavaScript
    nor of cookies and terms of use. Three sentences and five words are those of the published version.

    The lines themselves are taken out by `clean` if that is asked for, by the same rules. The list of bad words is the
    caller's (`bad_words`); none comes with the package. A curly bracket drops all code: set `brackets` to false there.
    """

    class Config(PartConfig):
        """The published thresholds."""

        kind: Literal["c4"] = "c4"
        min_sentences: int = Field(default=3, ge=0)
        min_words_per_line: int = Field(default=5, ge=0)
        max_word_chars: int = Field(default=1000, ge=1)
        terminal_mark: bool = True
        lorem_ipsum: bool = True
        brackets: bool = True
        bad_words: tuple[str, ...] = ()

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        words = "|".join(re.escape(word.lower()) for word in config.bad_words)
        self._bad = re.compile(rf"(?<!\w)(?:{words})(?!\w)") if words else None

    def judge(self, text: str) -> Verdict:
        """Return the rule that the text breaks."""
        config, low = self.config, text.lower()
        if config.lorem_ipsum and "lorem ipsum" in low:
            return "lorem ipsum"
        if config.brackets and "{" in text:
            return "curly bracket"
        if self._bad is not None and self._bad.search(low):
            return "bad word"
        sentences = 0
        for line in text.splitlines():
            if sentences >= config.min_sentences:
                return None
            if not bad_line(line, config):
                sentences += max(len(SENTENCE_END.findall(line)), 1)
        return "too few sentences" if sentences < config.min_sentences else None


def bad_line(line: str, config: C4.Config) -> str | None:
    """Return why C4 would not keep a line, or `None`."""
    line = CITATION.sub("", line).strip()
    words = line.split()
    if len(words) < config.min_words_per_line:
        return "short line"
    if len(line) > config.max_word_chars and max(map(len, words)) > config.max_word_chars:
        return "long word"
    if config.terminal_mark and not ends_sentence(line):
        return "no terminal mark"
    return notice(line)


def ends_sentence(line: str) -> bool:
    """Return whether a line ends in a terminal mark or in a quotation mark; an ellipsis is none (as in C4's code)."""
    return line.endswith((*TERMINAL, '"', "'", "”")) and not line.rstrip(QUOTES).endswith(("...", "…"))


def notice(line: str) -> str | None:
    """Return what makes a line a notice of the site rather than text, or `None`."""
    low = line.lower()
    if "javascript" in low:
        return "javascript"
    return "policy" if any(phrase in low for phrase in POLICY) else None
