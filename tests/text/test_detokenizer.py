from __future__ import annotations

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from hanok.text.tokenizer import Tokenizer
from hanok.text.tokenizer.detokenizer import byte_alphabet, decoder_mode

TEXT = st.text(st.sampled_from("ab 1\n한글값읽ㅋ👨‍👩‍👧🏳️é\u0301"), max_size=24)


def sentencepiece(decoder: decoders.Decoder | None) -> Tokenizer:
    """A tokenizer of the sentencepiece style: a few pieces with ▁, bytes as <0xNN> for everything else."""
    pieces = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    pieces += ["▁", "a", "b", "▁a", "ab", "한", "▁한글", "1", "▁▁"]
    vocab = {piece: id for id, piece in enumerate(pieces)}
    merges = [("▁", "a"), ("a", "b"), ("▁", "▁")]
    backend = tokenizers.Tokenizer(models.BPE(vocab, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.add_special_tokens([AddedToken(name, special=True) for name in ("<unk>", "<s>", "</s>")])
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    if decoder is not None:
        backend.decoder = decoder
    return Tokenizer(backend, {"bos_token": "<s>", "eos_token": "</s>"})


LLAMA = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
)
GEMMA = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
TWO = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 2, 0)]
)
META = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
STYLES = {
    "llama": sentencepiece(LLAMA),
    "gemma": sentencepiece(GEMMA),
    "strip two": sentencepiece(TWO),
    "metaspace": sentencepiece(META),
    "metaspace alone": sentencepiece(decoders.Metaspace(prepend_scheme="never")),
    "none": sentencepiece(None),
    "wordpiece": sentencepiece(decoders.WordPiece("##", cleanup=True)),
    "ctc": sentencepiece(decoders.CTC(pad_token="a")),
}


def streamed(tokenizer: Tokenizer, ids: list[int], skip: bool) -> list[str]:
    detokenizer = tokenizer.detokenizer(skip_special=skip)
    return [*(detokenizer.push(id) for id in ids), detokenizer.finish()]


@settings(max_examples=300, deadline=None)
@given(TEXT, st.data())
def test_any_split_of_any_text_streams_without_a_broken_character(
    tokenizer: Tokenizer, text: str, data: st.DataObject
) -> None:
    # Any token split: encode random slices of the bytes, cut anywhere, each on its own.
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    alphabet = byte_alphabet()
    ids: list[int] = []
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        piece = raw[start:end]
        whole = tokenizer._backend.token_to_id("".join(alphabet[byte] for byte in piece))
        single = [tokenizer._backend.token_to_id(alphabet[byte]) for byte in piece]
        ids += [whole] if whole is not None else single
    parts = streamed(tokenizer, ids, True)
    assert "".join(parts) == text == tokenizer.decode(ids)
    assert not any("\ufffd" in part for part in parts)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 530), max_size=30), st.booleans())
def test_random_ids_stream_to_the_whole_decode(tokenizer: Tokenizer, ids: list[int], skip: bool) -> None:
    """Invalid bytes, specials in the middle of a character and ids beyond the vocabulary included."""
    assert "".join(streamed(tokenizer, ids, skip)) == tokenizer.decode(ids, skip_special=skip)


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.one_of(st.integers(0, 270), st.integers(255, 267), st.integers(3 + 0xE0, 3 + 0xEF)), max_size=24),
    st.booleans(),
)
def test_other_decoders_stream_to_the_whole_decode(style: str, ids: list[int], skip: bool) -> None:
    tokenizer = STYLES[style]
    assert "".join(streamed(tokenizer, ids, skip)) == tokenizer.decode(ids, skip_special=skip)


@pytest.mark.parametrize("style", ["llama", "gemma", "metaspace"])
@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_byte_fallback_streams_text_as_it_comes(style: str, text: str) -> None:
    tokenizer = STYLES[style]
    ids = tokenizer.encode(text)
    parts = streamed(tokenizer, ids, True)
    assert "".join(parts) == tokenizer.decode(ids) and not any("\ufffd" in part for part in parts)


def test_text_is_given_out_early() -> None:
    ids = [STYLES["llama"].token_id(name) for name in ("▁한글", "▁a", "b")]
    assert streamed(STYLES["llama"], ids, True) == ["한글", " a", "b", ""]


def test_the_naive_way_breaks_syllables(tokenizer: Tokenizer) -> None:
    """The control: decoding token by token, without the buffer, loses characters."""
    ids = tokenizer.encode("뷁꿻")
    assert "\ufffd" in "".join(tokenizer.decode([id]) for id in ids)
    assert "".join(streamed(tokenizer, ids, True)) == "뷁꿻"


def test_token_bytes_join_to_the_text(tokenizer: Tokenizer) -> None:
    text = "한옥 house 뷁 👩‍👩‍👧"
    for each in (tokenizer, STYLES["gemma"]):
        ids = each.encode(text)
        assert b"".join(each.token_bytes(id) for id in ids).decode() == each.decode(ids)
        lengths = each.byte_lengths()
        assert sum(lengths[id] for id in ids) == len(each.decode(ids).encode())
        assert {lengths[id] for id in each.specials.values()} == {0} and len(lengths) == each.vocab_size


def test_the_alphabet_is_the_backend_s() -> None:
    assert sorted(byte_alphabet().values()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert len(byte_alphabet()) == 256


def test_decoders_that_look_ahead_are_held_back() -> None:
    assert decoder_mode({"type": "WordPiece", "prefix": "##", "cleanup": True}) == "whole"
    assert decoder_mode({"type": "Strip", "content": " ", "start": 0, "stop": 1}) == "whole"
    assert decoder_mode({"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}) == "whole"
