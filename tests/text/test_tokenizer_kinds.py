"""WordPiece and Unigram: what comes back and what does not, against transformers and against brute force."""

from __future__ import annotations

import itertools
import json
import math
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hanok.core.errors import UsageError
from hanok.text.tokenizer import TOKENIZERS, Tokenizer
from hanok.text.tokenizer.fertility import ENGLISH, KOREAN
from hanok.text.tokenizer.measure import kind_of
from hanok.text.tokenizer.specials import SPECIALS, UNK

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {kind: Tokenizer.train([*ENGLISH, *KOREAN] * 4, vocab_size=420, kind=kind) for kind in TOKENIZERS}


def test_these_are_the_kinds(trained: dict[str, Tokenizer]) -> None:
    assert set(trained) == {"bbpe", "wordpiece", "unigram"}
    assert all(kind_of(tokenizer) == kind and tokenizer.vocab_size <= 420 for kind, tokenizer in trained.items())


@settings(max_examples=80, deadline=None)
@given(TEXT)
def test_unigram_gives_every_text_back(trained: dict[str, Tokenizer], text: str) -> None:
    tokenizer = trained["unigram"]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)
    assert not set(ids) & set(tokenizer.specials.values())
    stream = tokenizer.detokenizer()
    assert "".join(map(stream.push, ids)) + stream.finish() == tokenizer.decode(ids)


def test_unigram_takes_the_most_probable_of_all_segmentations(trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained["unigram"]
    vocab = json.loads(tokenizer.to_json())["model"]["vocab"]
    score = dict(vocab)
    for word in ("houses", "rather", "painted", "counted"):
        cuts = itertools.product([False, True], repeat=len(word) - 1)
        best = -math.inf
        for cut in cuts:
            pieces = "".join(char + ("\0" if here else "") for char, here in zip(word, (*cut, False), strict=True))
            best = max(best, sum(score.get(piece, -math.inf) for piece in pieces.split("\0")))
        found = sum(score[str(tokenizer.token(id))] for id in tokenizer.encode(word))
        assert found == pytest.approx(best)


def test_wordpiece_gives_words_back_and_says_what_it_does_not_know(trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained["wordpiece"]
    assert tokenizer.decode(tokenizer.encode("The floor\n\n is  warm")) == "The floor is warm"
    assert tokenizer.decode(tokenizer.encode("warm, not cold.")) == "warm , not cold ."
    unknown = tokenizer.token_id(UNK)
    assert tokenizer.encode("👨‍👩‍👧 house") == [unknown, *tokenizer.encode("house")]
    assert tokenizer.token_id("##s") is not None and tokenizer.specials[UNK] == unknown == len(SPECIALS)


def test_wordpiece_takes_the_longest_piece_first(trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained["wordpiece"]
    vocab = set(json.loads(tokenizer.to_json())["model"]["vocab"])
    for word in ("houses", "timbers", "warmest", "지붕", "나무로", "unpainted"):
        rest, pieces = word, list[str]()
        while rest:
            mark = "##" if pieces else ""
            size = next((n for n in range(len(rest), 0, -1) if mark + rest[:n] in vocab), 0)
            pieces, rest = ([*pieces, mark + rest[:size]], rest[size:]) if size else ([UNK], "")
        assert [tokenizer.token(id) for id in tokenizer.encode(word)] == pieces


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_saved_files_are_read_back_and_by_transformers(
    kind: str, trained: dict[str, Tokenizer], tmp_path: Path
) -> None:
    tokenizer = trained[kind]
    tokenizer.save(tmp_path)
    again, theirs = Tokenizer.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for text in (*ENGLISH, *KOREAN, "a\tb\n\nc 🙂 世界"):
        ids = tokenizer.encode(text)
        assert again.encode(text) == ids == theirs(text, add_special_tokens=False)["input_ids"]
        assert again.decode(ids) == tokenizer.decode(ids)
    assert again.vocab_size == tokenizer.vocab_size and again.eos == theirs.eos_token
    assert (theirs.unk_token == UNK) == (kind == "wordpiece")


@pytest.mark.parametrize(("kind", "size"), [("unigram", 260), ("wordpiece", 6)])
def test_a_size_that_cannot_be_is_refused(kind: str, size: int) -> None:
    with pytest.raises(UsageError, match="vocab_size must be"):
        Tokenizer.train(["a b"], vocab_size=size, kind=kind)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_tiny_texts_train_and_specials_have_their_places(kind: str) -> None:
    tokenizer = Tokenizer.train(["one two", "하나 둘"], vocab_size=400, kind=kind)
    assert [tokenizer.token_id(name) for name in SPECIALS] == list(range(len(SPECIALS)))
    assert tokenizer.decode(tokenizer.encode("one 하나")) == "one 하나"
