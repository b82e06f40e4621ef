"""Text as sentences of words, as plainly as word2vec needs it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

END = re.compile(r"(?<=[.!?。])\s+|\n\s*\n")
WORD = re.compile(r"\w+(?:['’]\w+)*")


def sentences(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the sentences of texts as lower-case words; punctuation is dropped, and so is a sentence of one word."""
    for text in texts:
        for sentence in END.split(text):
            words = WORD.findall(sentence.lower())
            if len(words) > 1:
                yield words
