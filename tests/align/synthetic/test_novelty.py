"""ROUGE-L against its definition, and the index against comparing with everything."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hanok.align.synthetic.novelty import Novelty, common, rouge_l, words

LISTS = st.lists(st.sampled_from("abcd"), max_size=12)


def table(first: list[str], second: list[str]) -> int:
    """Return the longest common subsequence by the textbook's table."""
    rows = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first, 1):
        for j, b in enumerate(second, 1):
            rows[i][j] = rows[i - 1][j - 1] + 1 if a == b else max(rows[i - 1][j], rows[i][j - 1])
    return rows[-1][-1]


@settings(max_examples=80, deadline=None)
@given(LISTS, LISTS)
def test_the_common_subsequence_is_that_of_the_table(first: list[str], second: list[str]) -> None:
    assert common(first, second) == table(first, second) == common(second, first)


def test_the_example_of_the_paper() -> None:
    # Lin (2004), section 3.1: three of four words in order for the first candidate, two for the second.
    reference = words("police killed the gunman")
    assert rouge_l(reference, words("police kill the gunman")) == 0.75
    assert rouge_l(reference, words("the gunman kill police")) == 0.5


def test_words_of_scripts_without_spaces_are_characters() -> None:
    assert words("It's 3 o'clock, 한옥은 집.") == ["it", "s", "3", "o", "clock", "한옥은", "집"]
    assert words("人人生而自由ok") == [*"人人生而自由", "ok"]


@settings(max_examples=40, deadline=None)
@given(st.lists(LISTS.map(" ".join), max_size=8), LISTS.map(" ".join), st.sampled_from([0.0, 0.5, 0.7, 1.0]))
def test_the_index_finds_what_comparing_with_all_finds(texts: list[str], text: str, most: float) -> None:
    novelty = Novelty(most)
    for at, there in enumerate(texts):
        novelty.add(str(at), there)
    scores = [rouge_l(words(there), words(text)) for there in texts]
    found = novelty.nearest(text)
    if words(text):
        best = max(scores, default=0.0)
        assert (found is not None) == (best > most)
        assert found is None or (found[1] == best and scores[int(found[0])] == best)
    else:
        assert (found is not None) == ("" in texts)
