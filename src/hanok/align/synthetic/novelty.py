"""Novelty by ROUGE-L: a text is new if no earlier one shares too long a common subsequence of words with it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

# A word, or one character of a script that writes no spaces between words (Kana, Han).
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")


def words(text: str) -> list[str]:
    """Return the lower-case words of a text; for English those of Google's `rouge_score` without stemming."""
    return WORD.findall(text.lower())


def common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    One row of the table is one integer: with M the places of a word, V' = (V + (V & M)) | (V & ~M), and what is
    counted is the zeros of V (Crochemore et al. 2001).
    """
    places: dict[str, int] = defaultdict(int)
    for at, word in enumerate(first):
        places[word] |= 1 << at
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        hit = row & places.get(word, 0)
        row = ((row + hit) | (row - hit)) & full
    return len(first) - row.bit_count()


def rouge_l(first: Sequence[str], second: Sequence[str]) -> float:
    """Return ROUGE-L's F measure 2 LCS / (m + n) of two lists of words, 0 where one is empty."""
    return 2 * common(first, second) / (len(first) + len(second)) if first and second else 0.0


class Novelty:
    """The texts that are there, and whether another would be new: no ROUGE-L with any of them above `most`.

    Exact: the long comparison is made for those texts alone that share enough words for it to matter, which an index of
    words finds, since the common subsequence is no longer than the common words.
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self._names: list[str] = []
        self._texts: list[list[str]] = []
        self._holders: dict[str, list[tuple[int, int]]] = defaultdict(list)  # word: (text, how often)

    def add(self, name: str, text: str) -> None:
        """Take a text in."""
        found = words(text)
        for word, times in Counter(found).items():
            self._holders[word].append((len(self._texts), times))
        self._names.append(name)
        self._texts.append(found)

    def nearest(self, text: str) -> tuple[str, float] | None:
        """Return the name of the text that is too much like this one, and their ROUGE-L, or None if it is new.

        A text without words is like any other without words.
        """
        found = words(text)
        shared: Counter[int] = Counter()
        for word, times in Counter(found).items():
            for at, theirs in self._holders.get(word, ()):
                shared[at] += min(times, theirs)
        if not found:
            empty = next((name for name, text in zip(self._names, self._texts, strict=True) if not text), None)
            return None if empty is None else (empty, 1.0)
        best: tuple[str, float] | None = None
        for at, many in sorted(shared.items()):
            bound = 2 * many / (len(found) + len(self._texts[at]))
            if bound <= max(self.most, best[1] if best else 0.0):
                continue
            score = rouge_l(self._texts[at], found)
            if score > self.most and (best is None or score > best[1]):
                best = self._names[at], score
        return best
