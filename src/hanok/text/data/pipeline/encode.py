"""Tokenising a unit: the tokens of its documents, which split each is in, where it came from, and its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hanok.core.artifact import atomic_write
from hanok.core.config import digest
from hanok.text.data.passage import passages
from hanok.text.data.pipeline.job import Job
from hanok.text.data.pipeline.part import Unit, part
from hanok.text.data.split import split_of
from hanok.text.tokenizer import Tokenizer

TOKENS, PIECES, ORIGINS = "tokens.bin", "pieces.bin", "origins.jsonl"
BATCH = 1 << 18  # characters that are encoded at once
# Of every piece: where its tokens and its origin end in their files, its bytes, its place in the order, its split.
PIECE = np.dtype([("tokens", "<u8"), ("origin", "<u8"), ("bytes", "<u8"), ("key", "<u8"), ("valid", "<u1")])


class Piece(NamedTuple):
    """A document, or a passage of one."""

    origin: dict[str, Any]
    text: str


class Cut(NamedTuple):
    """How documents become pieces of two splits."""

    passage_chars: int | None  # None leaves documents whole
    valid_share: float
    valid_text: str = ""  # the digest of a text that is in validation whatever its hash says
    seed: int = 0

    def pieces(self, lines: Iterable[str]) -> Iterator[Piece]:
        """Yield the pieces of documents in order."""
        for line in lines:
            document = json.loads(line)
            text = document.pop("text")
            document.pop("place", None)
            if url := document.get("metadata", {}).pop("url", None):
                document = {"id": document.pop("id"), "source": document.pop("source"), "url": url, **document}
            if self.passage_chars is None:
                yield Piece(document, text)
                continue
            for number, piece in enumerate(passages(text, self.passage_chars)):
                if piece.strip():
                    yield Piece({**document, "id": f"{document['id']}#{number}"}, piece.strip("\n"))

    def is_valid(self, text: str) -> bool:
        """Say whether a text is in validation: by its hash, so that equal texts are on one side."""
        by_hash = split_of(text, {"valid": self.valid_share}) == "valid"
        return by_hash or (bool(self.valid_text) and digest(text) == self.valid_text)

    def key(self, id: str) -> int:
        """Return what the order of documents is sorted by."""
        return int.from_bytes(hashlib.sha256(f"{self.seed}/{id}".encode()).digest()[:8], "little")


def work(job: Job) -> Unit:
    """Return what tokenises one file of documents."""
    config = job.config
    tokenizer, cut = Tokenizer.load(config["tokenizer"]), Cut(**config["cut"])

    def unit(number: int) -> dict[str, Any]:
        file = Path(config["files"][number])
        with part(job.parts, number) as (folder, result), file.open(encoding="utf-8") as lines:
            result.update(encode(cut.pieces(lines), cut, tokenizer, folder))
        return result

    return unit


def number_type(tokenizer: Tokenizer) -> np.dtype[Any]:
    """Return the type of the token ids on disk."""
    return np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")


def encode(pieces: Iterable[Piece], cut: Cut, tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    """Write the part of a unit and return how many pieces it has."""
    dtype = number_type(tokenizer)
    table, tokens_end, origins_end = [], 0, 0
    with ExitStack() as stack:
        tokens = stack.enter_context((folder / TOKENS).open("wb"))
        origins = stack.enter_context((folder / ORIGINS).open("wb"))
        for batch in _batches(pieces):
            for piece, ids in zip(batch, tokenizer.encode_many([piece.text for piece in batch]), strict=True):
                whole = np.asarray(tokenizer.between(ids), dtype=dtype)
                tokens.write(whole.tobytes())
                origins_end += origins.write((json.dumps(piece.origin, ensure_ascii=False) + "\n").encode())
                tokens_end += len(whole)
                key, size = cut.key(piece.origin["id"]), len(piece.text.encode())
                table.append((tokens_end, origins_end, size, key, cut.is_valid(piece.text)))
    atomic_write(folder / PIECES, np.array(table, dtype=PIECE).tobytes())
    return {"pieces": len(table)}


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
