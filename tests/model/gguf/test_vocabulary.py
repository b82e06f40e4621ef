"""A vocabulary travels inside the file: as the tokenizer.json it was, or rebuilt from llama.cpp's lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from hanok.core.errors import UsageError
from hanok.model.gguf import pretokenizer
from hanok.model.gguf.load import load_gguf
from hanok.model.gguf.reader import GGUF
from hanok.model.gguf.save import save_gguf
from hanok.model.gguf.vocabulary import ORIGINAL, PREFIX, Vocabulary, read_vocabulary, write_vocabulary
from hanok.model.gguf.writer import header
from hanok.model.model import Model
from hanok.model.weights import TokenIds
from hanok.text.tokenizer import Tokenizer

CORPUS = ["The house has a court, and 1234 rooms; it's 한옥 집.\n\n  Rooms open  onto it!", "naïve café ﬁn ½ ﾊﾟ"] * 3
TEXTS = [*CORPUS, "don't 12345 \t\n x", "집집집 IT'S", "<s>tag</s> middle", "a\r\n\r\nb   c", ""]


def _train(rule: str) -> str:
    """Return the JSON of a tokenizer trained under one of llama.cpp's word rules."""
    backend = tokenizers.Tokenizer(models.BPE(ignore_merges=pretokenizer.RULES[rule].whole_words))
    pattern = pretokenizer.RULES[rule].pattern
    steps = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)]
    if pattern is not None:
        steps.insert(0, pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps) if pattern else steps[0]
    backend.normalizer = normalizers.NFC() if pretokenizer.RULES[rule].nfc else None
    backend.decoder = decoders.ByteLevel()
    specials = [AddedToken(word, special=True, normalized=False) for word in ("<s>", "</s>")]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False),
    )
    backend.add_tokens([AddedToken("tag", normalized=False)])
    text: str = backend.to_str()
    return text


def _read(tmp_path: Path, metadata: dict[str, Any], vocab: int) -> tuple[Vocabulary | None, str | None]:
    (tmp_path / "v.gguf").write_bytes(header(metadata, {}))
    with GGUF.open(tmp_path / "v.gguf") as file:
        return read_vocabulary(file, vocab)


@pytest.mark.parametrize("rule", pretokenizer.RULES)
def test_rebuilt_from_the_lists_it_gives_the_same_tokens(rule: str, tmp_path: Path) -> None:
    text = _train(rule)
    metadata = write_vocabulary(Vocabulary(text), 320)
    assert metadata[PREFIX + "pre"] == rule
    del metadata[ORIGINAL]
    rebuilt, note = _read(tmp_path, metadata, 320)
    assert rebuilt is not None and note is None and rebuilt.split == rule
    ours, theirs = tokenizers.Tokenizer.from_str(rebuilt.json), tokenizers.Tokenizer.from_str(text)
    for sample in TEXTS:
        assert ours.encode(sample).ids == theirs.encode(sample).ids, sample
        assert ours.decode(ours.encode(sample).ids) == theirs.decode(theirs.encode(sample).ids)
    assert ours.get_vocab() == theirs.get_vocab()  # the unused ids that fill up the model's table are no tokens


def test_our_tokenizer_comes_back_as_it_was(tmp_path: Path, tiny: Callable[..., Model]) -> None:
    tokenizer = Tokenizer.train(CORPUS, vocab_size=290)
    tokenizer.save(tmp_path)
    text = (tmp_path / "tokenizer.json").read_text()
    config = {**tokenizer.config, "chat_template": "{{ messages }}", "add_bos_token": True}
    ids = TokenIds(tokenizer.bos_id, (tokenizer.eos_id or 0,), tokenizer.pad_id)
    save_gguf(tiny(), tmp_path / "m.gguf", vocabulary=Vocabulary(text, config), ids=ids)
    loaded = load_gguf(tmp_path / "m.gguf")
    assert loaded.vocabulary is not None and loaded.ids == ids and loaded.note is None
    assert loaded.vocabulary.json == text and loaded.vocabulary.config.items() <= config.items()
    assert loaded.vocabulary.split == "hanok"  # llama.cpp has no name for our rule, and is not told a wrong one
    again = Tokenizer(tokenizers.Tokenizer.from_str(loaded.vocabulary.json), loaded.vocabulary.config)
    assert again.bos_id == tokenizer.bos_id and [again.encode(t) for t in TEXTS] == [tokenizer.encode(t) for t in TEXTS]


def test_a_rule_without_a_name_here_is_said_and_the_weights_are_read(tmp_path: Path) -> None:
    metadata = write_vocabulary(Vocabulary(_train("gpt-2"), split="smaug-bpe"), 320)
    del metadata[ORIGINAL]
    vocabulary, note = _read(tmp_path, metadata, 320)
    assert vocabulary is None and "smaug-bpe" in (note or "")
    vocabulary, note = _read(tmp_path, {**metadata, PREFIX + "model": "llama"}, 320)
    assert vocabulary is None and "'llama'" in (note or "")


def _changed(text: str, *path: Any, to: Any) -> str:
    data = json.loads(text)
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return json.dumps(data)


LIES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "too few tokens": (lambda m: m.update({PREFIX + "tokens": ["a"]}), "lists 1 tokens"),
    "tokens a word": (lambda m: m.update({PREFIX + "tokens": "a"}), "array of strings"),
    "types": (lambda m: (m.pop(ORIGINAL), m.update({PREFIX + "token_type": np.zeros(3, "<i4")})), "token_type"),
    "merges": (lambda m: (m.pop(ORIGINAL), m.update({PREFIX + "merges": ["a zz"]})), "two tokens that make a third"),
    "no merges": (lambda m: (m.pop(ORIGINAL), m.pop(PREFIX + "merges")), "merges is missing"),
    "twice": (
        lambda m: (m.pop(ORIGINAL), m.update({PREFIX + "tokens": ["a"] * 320}), m.pop(PREFIX + "token_type")),
        "twice",
    ),
    "other ids": (
        lambda m: m.update({ORIGINAL: _changed(m[ORIGINAL], "added_tokens", 0, "id", to=7)}),
        "disagree",
    ),
    "an id beyond": (
        lambda m: m.update({ORIGINAL: _changed(m[ORIGINAL], "added_tokens", 0, "id", to=1 << 40)}),
        "disagree",
    ),
    "no JSON": (lambda m: m.update({ORIGINAL: "{"}), "not a tokenizer"),
    "deep JSON": (lambda m: m.update({ORIGINAL: "[" * 100_000}), "not a tokenizer"),
    "other JSON": (lambda m: m.update({ORIGINAL: "[1]"}), "not a tokenizer"),
    "template a number": (lambda m: m.update({"tokenizer.chat_template": np.uint32(1)}), "must be a string"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_vocabulary_that_contradicts_itself_is_refused(lie: str, tmp_path: Path) -> None:
    change, message = LIES[lie]
    metadata = write_vocabulary(Vocabulary(_train("gpt-2")), 320)
    _read(tmp_path, metadata, 320)
    change(metadata)
    with pytest.raises(UsageError, match=message):
        _read(tmp_path, metadata, 320)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "something else"),
        ('{"model": {"type": "Unigram", "vocab": []}}', "something else"),
        ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": []}', "something else"),
        (
            '{"model": {"vocab": {"a": 999}, "merges": []}, "added_tokens": [], "decoder": {"type": "ByteLevel"}}',
            "has the id 999",
        ),
    ],
)
def test_a_tokenizer_that_gguf_cannot_carry_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        write_vocabulary(Vocabulary(text), 320)
