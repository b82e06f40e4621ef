"""How many bits a model needs for a text, whatever its tokenizer: bits per byte and per character."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch

from hanok.core.errors import UsageError
from hanok.model.weights import TokenIds
from hanok.ops.numerics import numerics as computing_with
from hanok.text.tokenizer import Tokenizer


class Sizes(Protocol):
    """How many tokens there are, and how many the model can look at."""

    @property
    def vocab(self) -> int:
        """Return the size of the vocabulary."""
        ...

    @property
    def context(self) -> int:
        """Return the longest sequence."""
        ...


class Reader(Protocol):
    """What can be measured on text: an `LLM`, or anything else that predicts the tokens of its tokenizer."""

    @property
    def config(self) -> Sizes:
        """Return the model's sizes."""
        ...

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Return the tokenizer, if there is one."""
        ...

    @property
    def ids(self) -> TokenIds:
        """Return the special tokens."""
        ...

    def logprobs(self, tokens: torch.Tensor, /) -> torch.Tensor:
        """Return ln p of all tokens (B, T) but the first."""
        ...


@dataclass(frozen=True)
class Bits:
    """The bits that a corpus costs, and what it is divided by; bits per byte flatter scripts of many bytes."""

    bits: float
    bytes: int
    chars: int
    tokens: int
    documents: int
    numerics: str

    @property
    def per_byte(self) -> float:
        """Return bits per UTF-8 byte; 8 is a uniform guess."""
        return self.bits / self.bytes

    @property
    def per_char(self) -> float:
        """Return bits per character, the fairer figure across scripts."""
        return self.bits / self.chars

    @property
    def nats_per_token(self) -> float:
        """Return the mean loss that training shows."""
        return self.bits * math.log(2) / max(self.tokens, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-able data."""
        rates = {"bits_per_byte": self.per_byte, "bits_per_char": self.per_char, "nats_per_token": self.nats_per_token}
        return asdict(self) | rates


@dataclass(frozen=True)
class Window:
    """A stretch of a document that one forward scores: tokens [start, end), of which those from `first` count."""

    document: int
    start: int
    first: int
    end: int


def bits_per_byte(
    llm: Reader,
    documents: Iterable[str],
    *,
    window: int | None = None,
    batch: int = 8,
    numerics: str = "exact",
) -> Bits:
    """Return the bits of documents: the sum of -log2 p over their tokens, each document begun by BOS.

    A document longer than `window` (the model's context unless given) is scored in windows that overlap by half, so
    that every token but the first ones sees at least half a window. Under exact numerics the result does not depend
    on `batch`, to the last bit.
    """
    if llm.tokenizer is None:
        raise UsageError("bits per byte need the model's tokenizer: its directory holds no tokenizer.json")
    texts = [unicodedata.normalize("NFC", text) for text in documents if text]
    if not texts:
        raise UsageError("there is no text to measure: the documents are empty")
    start = llm.ids.bos if llm.ids.bos is not None else next(iter(sorted(llm.ids.eos)), None)
    ids = llm.tokenizer.encode_many(texts)
    rows = ids if start is None else [[start, *row] for row in ids]
    scored = score_tokens(llm, rows, window=window, batch=batch, numerics=numerics)
    # Without any token to begin with, the first one is charged like a uniform guess rather than left out.
    first = 0.0 if start is not None else len(rows) * math.log2(llm.config.vocab)
    return Bits(
        bits=first - math.fsum(value for row in scored for value in row) / math.log(2),
        bytes=sum(len(text.encode()) for text in texts),
        chars=sum(len(text) for text in texts),
        tokens=sum(len(row) for row in ids),
        documents=len(texts),
        numerics=numerics,
    )


def score_tokens(
    llm: Reader,
    rows: Sequence[Sequence[int]],
    *,
    window: int | None = None,
    batch: int = 8,
    numerics: str = "exact",
) -> list[list[float]]:
    """Return log p of every token but the first, row by row."""
    size = llm.config.context if window is None else window
    if not 2 <= size <= llm.config.context:
        raise UsageError(f"window must be from 2 to the model's context {llm.config.context}, not {size}")
    scored: list[list[float]] = [[0.0] * max(len(row) - 1, 0) for row in rows]
    windows = [piece for index, row in enumerate(rows) for piece in windows_of(index, len(row), size)]
    windows.sort(key=lambda piece: piece.end - piece.start)  # little padding
    with computing_with(numerics):
        for start in range(0, len(windows), batch):
            group = windows[start : start + batch]
            length = max(piece.end - piece.start for piece in group)
            tokens = torch.zeros(len(group), length, dtype=torch.int64)
            for at, piece in enumerate(group):
                tokens[at, : piece.end - piece.start] = torch.tensor(rows[piece.document][piece.start : piece.end])
            found = llm.logprobs(tokens).double().cpu()
            for at, piece in enumerate(group):
                values = found[at, piece.first - piece.start - 1 : piece.end - piece.start - 1]
                scored[piece.document][piece.first - 1 : piece.end - 1] = values.tolist()
    return scored


def windows_of(document: int, length: int, size: int) -> Iterator[Window]:
    """Cut a document so that every token but the first counts exactly once."""
    first = 1
    while first < length:
        start = 0 if first == 1 else first - size // 2
        end = min(start + size, length)
        yield Window(document, start, first, end)
        first = end
