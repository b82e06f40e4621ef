"""Fertility: how many tokens a tokenizer spends on English and on Korean, and on Korean that is not composed (NFD)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from hanok.text.tokenizer.tokenizer import Tokenizer

ENGLISH = (
    "The house stands on a stone base, and its timber frame is held together by joints rather than nails.",
    "In winter the floor is warmed from below; in summer the doors are lifted and the wind walks through.",
    "She counted 128 beams, wrote the number down, and asked why the longest one had been left unpainted.",
    "A function that returns early is easier to read than one that keeps its answer until the last line.",
)
KOREAN = (
    "한옥은 나무로 뼈대를 세우고 못 대신 짜맞춤으로 기둥과 보를 이어 만든 집입니다.",
    "겨울에는 바닥을 데워 방을 따뜻하게 하고, 여름에는 문을 들어 올려 바람이 지나가게 합니다.",
    "그는 들보를 128개까지 세고 나서 왜 가장 긴 것만 칠하지 않았는지 물었습니다.",
    "토큰 수가 늘어나면 같은 글을 읽고 쓰는 데 드는 시간과 비용도 함께 늘어납니다.",
)


@dataclass(frozen=True)
class Fertility:
    """Tokens spent on a text, by the units that its readers count in."""

    tokens: int
    chars: int
    bytes: int
    syllables: int  # composed Hangul syllables
    eojeol: int  # words between spaces
    single: int  # syllables that are one token when alone
    chars_per_token: float
    bytes_per_token: float
    tokens_per_syllable: float | None
    tokens_per_eojeol: float

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the figures as JSON-able data."""
        return asdict(self)


def fertility(tokenizer: Tokenizer, texts: Iterable[str]) -> Fertility:
    """Count tokens per character, byte, Hangul syllable and eojeol over texts (read as NFC)."""
    texts = [unicodedata.normalize("NFC", text) for text in texts]
    tokens = sum(len(ids) for ids in tokenizer.encode_many(texts))
    chars = sum(len(text) for text in texts)
    size = sum(len(text.encode()) for text in texts)
    hangul = [char for text in texts for char in text if "가" <= char <= "힣"]
    eojeol = sum(len(text.split()) for text in texts)
    single = sum(len(ids) == 1 for ids in tokenizer.encode_many(hangul))
    return Fertility(
        tokens=tokens,
        chars=chars,
        bytes=size,
        syllables=len(hangul),
        eojeol=eojeol,
        single=single,
        chars_per_token=chars / max(tokens, 1),
        bytes_per_token=size / max(tokens, 1),
        # Only a text that is mostly Hangul has a meaningful figure per syllable.
        tokens_per_syllable=tokens / len(hangul) if len(hangul) * 3 > chars else None,
        tokens_per_eojeol=tokens / max(eojeol, 1),
    )


@dataclass(frozen=True)
class Report:
    """English and Korean fertility beside each other, and what decomposed Korean (NFD) costs."""

    english: Fertility
    korean: Fertility
    nfd_ratio: float  # tokens of the Korean text as NFD over NFC; 1 where the tokenizer composes its input
    nfd_same: bool  # whether both spellings give the same ids

    def to_dict(self) -> dict[str, object]:
        """Return the figures as JSON-able data."""
        return asdict(self)

    def summary(self) -> str:
        """Return one line for a log."""
        korean = self.korean.tokens_per_syllable
        syllable = "" if korean is None else f" · ko {korean:.2f} tokens/syllable"
        return f"en {self.english.chars_per_token:.2f} chars/token{syllable}"


def evaluate(tokenizer: Tokenizer, *, english: Iterable[str] = ENGLISH, korean: Iterable[str] = KOREAN) -> Report:
    """Measure a tokenizer on English and Korean sentences (ours unless given)."""
    korean = tuple(korean)
    composed = tokenizer.encode_many([unicodedata.normalize("NFC", text) for text in korean])
    decomposed = tokenizer.encode_many([unicodedata.normalize("NFD", text) for text in korean])
    return Report(
        english=fertility(tokenizer, english),
        korean=fertility(tokenizer, korean),
        nfd_ratio=sum(map(len, decomposed)) / max(sum(map(len, composed)), 1),
        nfd_same=composed == decomposed,
    )
