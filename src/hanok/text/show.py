"""Looking at training data: conversations as a model sees them, with who wrote what and what is learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from hanok.text.chat import ChatSpec
from hanok.text.chat.message import Message
from hanok.text.tokenizer import Tokenizer
from hanok.text.trace import Trace


@dataclass(frozen=True)
class Piece:
    """A run of tokens of one role; `learned` says whether the loss counts them."""

    text: str
    role: str
    learned: bool
    tokens: int


@dataclass(frozen=True)
class Shown:
    """One example in pieces that join to what the model reads."""

    pieces: list[Piece]

    @property
    def tokens(self) -> int:
        """Return the number of tokens."""
        return sum(piece.tokens for piece in self.pieces)

    @property
    def learned(self) -> int:
        """Return the number of tokens that the loss counts."""
        return sum(piece.tokens for piece in self.pieces if piece.learned)


def show(
    conversations: Sequence[Sequence[Message]], tokenizer: Tokenizer, chat: ChatSpec, *, role: str = "assistant"
) -> list[Shown]:
    """Return conversations as pieces with their role and loss mask."""
    return [show_trace(chat.encode(tokenizer, messages), tokenizer, role=role) for messages in conversations]


def show_trace(trace: Trace, tokenizer: Tokenizer, *, role: str = "assistant") -> Shown:
    """Return one trace as pieces; tokens of no span are the format's own."""
    owners = ["format"] * len(trace)
    for span in trace.spans:
        owners[span.start : span.end] = [span.role] * (span.end - span.start)
    marks = trace.mask(role)
    pieces = []
    for (owner, learned), group in groupby(range(len(trace)), key=lambda i: (owners[i], marks[i])):
        ids = [trace.tokens[i] for i in group]
        pieces.append(Piece(tokenizer.decode(ids, skip_special=False), owner, learned, len(ids)))
    return Shown(pieces)
