"""The whole-array repetition measures against the loops that they stand for."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from hanok.text.data.filter.gopher_repetition import grow
from hanok.text.data.words import written_words

SIZES = range(2, 11)


def top_chars(words: list[str], n: int) -> int:
    grams = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    gram, count = grams.most_common(1)[0] if grams else ("", 0)
    return len(gram) * count if count > 1 else 0


def repeated_chars(words: list[str], n: int) -> int:
    seen: set[tuple[str, ...]] = set()
    size = place = 0
    while place + n <= len(words):
        gram = tuple(words[place : place + n])
        if gram in seen:
            size += sum(map(len, gram))
            place += n
        else:
            seen.add(gram)
            place += 1
    return size


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["a", "bb", "ccc", "나무", "e"]), max_size=40), st.integers(1, 4))
def test_equals_the_loops(words: list[str], times: int) -> None:
    text = " ".join(words * times)
    measured = {grams.n: (grams.top_chars(), grams.repeated_chars()) for grams in grow(written_words(text), SIZES)}
    for n in SIZES:
        assert measured.get(n, (0, 0)) == (top_chars(text.split(), n), repeated_chars(text.split(), n)), n
