"""Incremental decoding: ids go in one at a time, whole characters come out, and the sum equals the whole decode."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

import tokenizers

# How a decoder's text depends on its tokens, which decides what can be given out before the end.
BYTES = "bytes"  # each token is a run of bytes: give out what is complete UTF-8
LOCAL = "local"  # each token has its own text, except that a run of <0xNN> tokens is read as one
WHOLE = "whole"  # later tokens may change earlier text: give out nothing before the end

BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class Pieces:
    """What each token id contributes to a text: read once from the backend, shared by all detokenizers."""

    def __init__(self, backend: tokenizers.Tokenizer, specials: frozenset[int]) -> None:
        self.backend = backend
        self.specials = specials
        decoder = backend.decoder
        self.mode = decoder_mode(None if decoder is None else json.loads(decoder.__getstate__()))
        self._byte_of = {char: byte for byte, char in byte_alphabet().items()}
        self._cache: dict[int, bytes] = {}
        self._anchor: list[int] | None = None

    def bytes_of(self, id: int) -> bytes:
        """Return the bytes of one token as it stands in the middle of a text; nothing for an unknown id."""
        if id not in self._cache:
            self._cache[id] = self._bytes_of(id)
        return self._cache[id]

    def is_byte(self, id: int) -> bool:
        """Say whether a token is one byte written as `<0xNN>`."""
        return BYTE.fullmatch(self.backend.id_to_token(id) or "") is not None

    def decode(self, ids: list[int]) -> str:
        """Return the backend's whole decode of ids, specials included."""
        return str(self.backend.decode(ids, skip_special_tokens=False))

    def _bytes_of(self, id: int) -> bytes:
        name = self.backend.id_to_token(id)
        if name is None:
            return b""
        if self.mode == BYTES:
            if all(char in self._byte_of for char in name):
                return bytes(self._byte_of[char] for char in name)
            return str(name).encode()
        if self.is_byte(id):
            return bytes([int(name[3:5], 16)])
        return self.behind([id]).encode()

    def behind(self, ids: list[int]) -> str:
        """Return the text of ids in the middle of a sequence: what they add behind a token that has text."""
        if self._anchor is None:
            vocab = sorted(self.backend.get_vocab(with_added_tokens=False).values())
            self._anchor = next(([id] for id in vocab if not self.is_byte(id) and self.decode([id])), [])
        return self.decode(self._anchor + ids)[len(self.decode(self._anchor)) :]


class Detokenizer:
    """Turns ids into text as they come: `push` gives finished characters, `finish` whatever is left."""

    def __init__(self, pieces: Pieces, *, skip_special: bool = True) -> None:
        self._pieces = pieces
        self._skip = pieces.specials if skip_special else frozenset()
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._head: list[int] = []  # tokens before the first text: a decoder may trim the start of a text
        self._started = False
        self._run: list[int] = []  # tokens whose text is not settled yet

    def push(self, id: int) -> str:
        """Take one id and return the text that is now certain, which may be empty."""
        id = int(id)
        if id in self._skip or self._pieces.backend.id_to_token(id) is None:
            return ""
        if self._pieces.mode == BYTES:
            return self._utf8.decode(self._pieces.bytes_of(id))
        if self._pieces.mode == WHOLE:
            self._run.append(id)
            return ""
        if self._pieces.is_byte(id):
            # Whether a run of byte tokens is valid UTF-8, and thus its text, is known only where it ends.
            self._run.append(id)
            return ""
        return self._settle() + self._add([id])

    def finish(self) -> str:
        """Return the rest of the text; bytes that never became a character are U+FFFD."""
        if self._pieces.mode == BYTES:
            return self._utf8.decode(b"", final=True)
        return self._settle()

    def _settle(self) -> str:
        run, self._run = self._run, []
        return self._add(run) if run else ""

    def _add(self, ids: list[int]) -> str:
        if self._started:
            return self._pieces.behind(ids)
        self._head += ids
        text = self._pieces.decode(self._head)
        self._started = bool(text)
        return text


def decoder_mode(decoder: dict[str, Any] | None) -> str:
    """Read from the decoder's description how far ahead its text depends on later tokens."""
    steps = _steps(decoder)
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return BYTES
    return LOCAL if all(_is_local(step) for step in steps) else WHOLE


def byte_alphabet() -> dict[int, str]:
    """Return the printable character that stands for each byte in a byte-level vocabulary.

    Printable Latin-1 bytes stand for themselves; the 68 others are moved, in order, to U+0100 and above.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(moved)}


def _steps(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    if decoder["type"] == "Sequence":
        return [step for inner in decoder["decoders"] for step in _steps(inner)]
    return [decoder]


def _is_local(step: dict[str, Any]) -> bool:
    if step["type"] == "Replace":
        return len(step["pattern"].get("String", "")) == 1
    if step["type"] == "Strip":  # trimming the end would take back what was given out
        return bool(step["stop"] == 0)
    kind: str = step["type"]
    return kind in ("Metaspace", "ByteFallback", "Fuse")
