"""What a tokenizer costs: tokens by language and spelling, what it cannot write, and how cost falls with its size."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from hanok.core.errors import UsageError
from hanok.text.tokenizer.languages import ARTICLE
from hanok.text.tokenizer.specials import UNK
from hanok.text.tokenizer.tokenizer import Tokenizer

HELD = 10  # every tenth document is measured on and not trained on


@dataclass(frozen=True)
class Cost:
    """What a text costs; ratios are over the whole text, composed (NFC)."""

    tokens: int
    bytes_per_token: float
    chars_per_token: float
    tokens_per_word: float  # words between spaces: fertility, of no use where a script writes none
    unknown: float  # the share of tokens that stand for anything
    nfd_ratio: float  # tokens of the decomposed (NFD) text over those of the composed one
    same: bool  # whether decoding gives the text back, as the tokenizer normalises it

    def to_dict(self) -> dict[str, float | int | bool]:
        """Return the figures as JSON-able data."""
        return asdict(self)


@dataclass(frozen=True)
class Size:
    """One point of a sweep: a kind trained at a vocabulary size, measured on text that it has not seen."""

    kind: str
    asked: int
    vocab_size: int
    cost: Cost


def cost(tokenizer: Tokenizer, texts: Iterable[str]) -> Cost:
    """Measure a tokenizer on texts."""
    composed = [unicodedata.normalize("NFC", text) for text in texts]
    rows = tokenizer.encode_many(composed)
    apart = tokenizer.encode_many([unicodedata.normalize("NFD", text) for text in composed])
    unknown = tokenizer.token_id(unknown_name(tokenizer))
    tokens = sum(map(len, rows))
    chars, size = sum(map(len, composed)), sum(len(text.encode()) for text in composed)
    return Cost(
        tokens=tokens,
        bytes_per_token=size / max(tokens, 1),
        chars_per_token=chars / max(tokens, 1),
        tokens_per_word=tokens / max(sum(len(text.split()) for text in composed), 1),
        unknown=sum(row.count(unknown) for row in rows) / max(tokens, 1) if unknown is not None else 0.0,
        nfd_ratio=sum(map(len, apart)) / max(tokens, 1),
        same=all(tokenizer.decode(row) == tokenizer.normalize(t) for row, t in zip(rows, composed, strict=True)),
    )


def by_language(tokenizer: Tokenizer, texts: Mapping[str, str] = ARTICLE) -> dict[str, Cost]:
    """Measure a tokenizer on one text in many languages."""
    return {language: cost(tokenizer, [text]) for language, text in texts.items()}


def premiums(costs: Mapping[str, Cost], *, base: str = "English") -> dict[str, float]:
    """Return the tokens of each language over those of `base`: how much more the same content costs."""
    return {language: found.tokens / max(costs[base].tokens, 1) for language, found in costs.items()}


def sweep(texts: Sequence[str], sizes: Sequence[int], kinds: Sequence[str]) -> Iterator[Size]:
    """Train each kind at each size on nine tenths of the documents, and measure it on the others."""
    held = list(texts[::HELD])
    learned = [text for at, text in enumerate(texts) if at % HELD]
    if not learned:
        raise UsageError(
            f"a sweep needs at least two documents, to train on one and measure on the other: {len(texts)}"
        )
    for kind in kinds:
        for size in sizes:
            tokenizer = Tokenizer.train(learned, vocab_size=size, kind=kind)
            yield Size(kind, size, tokenizer.vocab_size, cost(tokenizer, held))


def kind_of(tokenizer: Tokenizer) -> str:
    """Return the word under which a tokenizer's kind is trained here."""
    model = json.loads(tokenizer.to_json())["model"]["type"]
    return {"Unigram": "unigram", "WordPiece": "wordpiece"}.get(model, "bbpe")


def unknown_name(tokenizer: Tokenizer) -> str:
    """Return how the tokenizer spells the token for what it cannot write."""
    named = tokenizer.config.get("unk_token")
    name = named.get("content") if isinstance(named, dict) else named
    return name if isinstance(name, str) else UNK
