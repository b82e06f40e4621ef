from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanok.text.data.words import Rolling, Words, codes, mix, ngrams, plain_words, written_words

TEXTS = st.text(alphabet=st.sampled_from("ab Z\n\t.,'é가나漢字かÀ１\u0301\U0001f600"), max_size=40)


def pieces(words: Words, text: str) -> list[str]:
    return [text[start:end] for start, end in zip(words.starts, words.ends, strict=True)]


@settings(deadline=None, max_examples=60)
@given(TEXTS)
def test_written_words_are_those_of_split(text: str) -> None:
    assert pieces(written_words(text), text) == text.split()


@settings(deadline=None, max_examples=60)
@given(TEXTS)
def test_plain_words_are_runs_of_letters_and_digits(text: str) -> None:
    folded = unicodedata.normalize("NFKC", text.casefold())
    inside = "".join(c if unicodedata.category(c)[0] in "LNM" else " " for c in folded)
    expected = re.sub("([漢字か])", r" \1 ", inside).split()
    assert pieces(plain_words(text), folded) == expected


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS)
def test_words_have_equal_hashes_exactly_if_they_are_equal(a: str, b: str) -> None:
    text = f"{a} {b}"
    words = written_words(text)
    seen: dict[int, str] = {}
    for hashed, piece in zip(words.hashes.tolist(), pieces(words, text), strict=True):
        assert seen.setdefault(hashed, piece) == piece
    assert len(seen) == len(set(pieces(words, text)))


def test_case_width_punctuation_and_space_do_not_matter_and_words_do() -> None:
    plain = plain_words("the quick brown fox 3").hashes
    assert (plain_words("  The QUICK,\nbrown — fox... ３!").hashes == plain).all()
    assert not (plain_words("the quick browm fox 3").hashes == plain).all()
    assert not (plain_words("the quick brown fo x3").hashes[:5] == plain).all()


def test_hashes_are_the_same_on_every_machine() -> None:
    assert mix(np.arange(1)).tolist() == [0xE220A8397B1DCDAF]  # the first output of SplitMix64 from seed 0
    assert plain_words("한옥 house").hashes.tolist() == [2527551310043356623, 16834767978301002872]


def test_ngrams_keep_order_and_say_all_words_if_there_are_few() -> None:
    words = plain_words("a b c a b d").hashes
    twos = ngrams(words, 2)
    assert len(twos) == 5 and twos[0] == twos[3] and len(set(twos.tolist())) == 4
    assert ngrams(words[:2], 2)[0] != ngrams(words[1::-1], 2)[0]
    assert ngrams(words[:3], 5).tolist() == ngrams(words[:3], 3).tolist()
    assert len(ngrams(words[:0], 5)) == 0


def test_stretches_are_equal_wherever_they_stand() -> None:
    values = codes("xx-abcd-yyyy-abcd-z" * 500)  # longer than the powers that are kept at first
    rolling = Rolling(values)
    starts = np.array([3, 13, 3 + 19 * 499, 4])
    hashes = rolling.hashes(starts, starts + 4)
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]
    assert rolling.hashes(starts[:1], starts[:1] + 3) != rolling.hashes(starts[:1], starts[:1] + 4)


@pytest.mark.parametrize("text", ["", " \n\t ", "...", "\ud800"])
def test_texts_without_words(text: str) -> None:
    assert len(plain_words(text)) == 0
