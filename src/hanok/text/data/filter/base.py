"""What every filter is: a config, and a judgement of one text that depends on nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

from hanok.core.config import PartConfig
from hanok.text.data.document import Page, Verdict

# Marks that end a sentence, in the scripts that use them; a closing quotation mark or bracket may follow.
TERMINAL = (".", "!", "?", "…", "。", "！", "？", "．", "｡", "؟", "۔", "।", "॥", "።", "។", "။", "‼", "⁇", "⁈", "⁉")
QUOTES = "\"'”’»」』)）]"


class PageFilter(ABC):
    """A `Filter` that is made from a config and looks at nothing but the text."""

    Config: ClassVar[type[PartConfig]]

    def __init__(self, config: Any) -> None:
        self.config = config

    def __call__(self, page: Page) -> Verdict:
        """Return the reason to drop the page, or `None` to keep it."""
        return self.judge(page.text)

    @abstractmethod
    def judge(self, text: str) -> Verdict:
        """Return the reason to drop a text, or `None` to keep it."""


def repeated(pieces: Iterable[str]) -> tuple[int, int]:
    """Return how many pieces repeat an earlier one, and how many characters those have."""
    seen: set[str] = set()
    count = size = 0
    for piece in pieces:
        if piece in seen:
            count, size = count + 1, size + len(piece)
        else:
            seen.add(piece)
    return count, size


def hangul_share(text: str) -> float:
    """Return the share of Hangul syllables among the letters of a text; 0 if it has no letters."""
    letters = [char for char in text if char.isalpha()]
    return sum("가" <= char <= "힣" for char in letters) / len(letters) if letters else 0.0
