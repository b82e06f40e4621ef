from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import hanok
from hanok.core.errors import UsageError
from hanok.text.tokenizer import TOKENIZERS, Tokenizer
from hanok.text.tokenizer.fertility import ENGLISH, KOREAN, evaluate
from hanok.text.tokenizer.specials import SPECIALS

HOSTILE = [
    "",
    " ",
    "\x00\x01\x7f",
    "a\r\nb\r\n\n\n  c\t\td",
    "안녕하세요, 세계! ㅋㅋㅋ ᄀᄀᄀ ㆍ",
    "👨‍👩‍👧‍👦🏳️‍🌈 e\u0301 \u200b\u202e\ufeff",
    "<|bos|><|im_end|> <|eos|>",
    "1234567890 ½ ٣ 三",
    "\U0010ffff\ufdd0\ufffd",
    "ßﬁİ ﷺ",
    "don't we'll",
    "กำลัง हिन्दी",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize("text", HOSTILE)
def test_every_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


@settings(max_examples=150, deadline=None)
@given(TEXT)
def test_round_trip_of_any_text(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == tokenizer.normalize(text)


@given(TEXT, TEXT)
@settings(max_examples=100, deadline=None)
def test_text_after_a_line_break_has_the_tokens_it_has_alone(tokenizer: Tokenizer, before: str, after: str) -> None:
    joined = tokenizer.encode(before + "\n" + after)
    assert joined == tokenizer.encode(before + "\n") + tokenizer.encode(after)


def test_spelled_out_specials_stay_text_and_the_parsing_control_does_not(tokenizer: Tokenizer) -> None:
    text = "a" + "".join(SPECIALS)
    assert not set(tokenizer.encode(text)) & set(tokenizer.specials.values())
    assert set(tokenizer.specials.values()) <= {id for id, _, _ in tokenizer.encode_rendered(text)}
    assert tokenizer.encode_many([text]) == [tokenizer.encode(text)]


def test_digits_are_single_and_have_one_spelling(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("907 907")
    assert ids[:3] == ids[-3:] and len(ids) == 7
    assert [tokenizer.decode([id]) for id in ids[:3]] == ["9", "0", "7"]


def test_nfd_input_costs_what_nfc_input_costs(tokenizer: Tokenizer) -> None:
    report = evaluate(tokenizer)
    assert report.nfd_same and report.nfd_ratio == 1.0
    raw = tokenizers.Tokenizer.from_str(tokenizer._backend.to_str())
    raw.normalizer = tokenizers.normalizers.Sequence([])
    without = evaluate(Tokenizer(raw))  # the control: without NFC, decomposed Korean is far dearer
    assert without.nfd_ratio > 1.5 and not without.nfd_same


def test_fertility_counts_by_hand() -> None:
    tokenizer = Tokenizer.train(["가나"], vocab_size=261)  # bytes only
    korean = evaluate(tokenizer, korean=["가나 다"]).korean
    assert (korean.tokens, korean.syllables, korean.eojeol, korean.bytes) == (10, 3, 2, 10)
    assert korean.tokens_per_syllable == pytest.approx(10 / 3) and korean.tokens_per_eojeol == 5
    assert korean.bytes_per_token == 1 and korean.chars_per_token == 0.4 and korean.single == 0


def test_transformers_reads_what_we_save(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*HOSTILE, *ENGLISH, *KOREAN]:
        if not any(name in text for name in SPECIALS):
            assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text)
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (0, 1, 2)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 2)
    assert len(theirs) == tokenizer.vocab_size == 512
    ids = [0, *tokenizer.encode("한글 text"), 255, 300, 1]
    assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)
    assert theirs.decode(ids, skip_special_tokens=False) == tokenizer.decode(ids, skip_special=False)
    again = Tokenizer.load(tmp_path)
    assert again.encode(KOREAN[0]) == tokenizer.encode(KOREAN[0]) and again.specials == tokenizer.specials


def test_special_names_are_read_as_strings_objects_and_from_the_older_file(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"eos_token": {"content": "<|im_end|>", "lstrip": False}, "bos_token": None}))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<|eos|>", "bos_token": "<|bos|>"}))
    loaded = Tokenizer.load(tmp_path)
    assert (loaded.eos_id, loaded.bos_id, loaded.pad_id) == (4, 0, 1)
    (tmp_path / "special_tokens_map.json").unlink()
    config.write_text(json.dumps({"pad_token": "[PAD]"}))
    assert Tokenizer.load(tmp_path).pad_id == AutoTokenizer.from_pretrained(tmp_path).pad_token_id == 512
    config.write_text(json.dumps({"eos_token": 3}))
    with pytest.raises(UsageError, match="eos_token"):
        Tokenizer.load(tmp_path)


def test_saving_a_loaded_tokenizer_keeps_its_configuration(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "a")
    file = tmp_path / "a" / "tokenizer_config.json"
    config = json.loads(file.read_text()) | {"model_max_length": 77, "tokenizer_class": "TokenizersBackend"}
    file.write_text(json.dumps(config))
    Tokenizer.load(tmp_path / "a").save(tmp_path / "b")
    assert json.loads((tmp_path / "b" / "tokenizer_config.json").read_text()) == config


def test_mistakes_are_explained(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="not a readable tokenizer"):
        Tokenizer.load(tmp_path)
    with pytest.raises(UsageError, match="at least 261"):
        Tokenizer.train(["a"], vocab_size=100)
    with pytest.raises(UsageError, match="did you mean 'bbpe'"):
        Tokenizer.train(["a"], vocab_size=300, kind="bpe")
    with pytest.raises(UsageError, match=r"U\+D83D.*character 2"):
        tokenizer.encode("ab\ud83d")
    assert list(TOKENIZERS) == ["bbpe", "unigram", "wordpiece"] and hanok.Tokenizer is Tokenizer
