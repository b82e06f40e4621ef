"""The tokenizer: a `tokenizers` backend, its special tokens, and the Hugging Face files that hold them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from hanok.core.artifact import atomic_write
from hanok.core.errors import UsageError
from hanok.core.json_file import MIB, clip, read_json, read_text
from hanok.text.tokenizer import TOKENIZERS
from hanok.text.tokenizer.detokenizer import WHOLE, Detokenizer, Pieces
from hanok.text.tokenizer.specials import BOS, EOS, PAD, UNK

FILE = "tokenizer.json"
CONFIG, OLDER = "tokenizer_config.json", "special_tokens_map.json"
LARGEST, LARGEST_CONFIG = 256 * MIB, 32 * MIB  # bytes: large vocabularies fill 40 MB


class Tokenizer:
    """Text to token ids and back.

    `encode` reads its input as plain text: a special token that is spelled out in it becomes ordinary tokens. Specials
    enter a sequence by their id only, which is what the chat formats do.
    """

    def __init__(self, backend: tokenizers.Tokenizer, config: dict[str, Any] | None = None) -> None:
        self.config = dict(config or {})
        self._backend = backend
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()
        self._backend.no_padding()
        names = {key: _named(self.config, key) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
        # As transformers does: a special that the configuration names and the vocabulary lacks comes behind it.
        self._backend.add_special_tokens([name for name in names.values() if name is not None])
        self.bos, self.eos, self.pad = names["bos_token"], names["eos_token"], names["pad_token"]
        self.bos_id, self.eos_id, self.pad_id = (self._id(name) for name in (self.bos, self.eos, self.pad))
        added = self._backend.get_added_tokens_decoder()
        self.specials: dict[str, int] = {token.content: id for id, token in sorted(added.items()) if token.special}
        self._pieces = Pieces(self._backend, frozenset(self.specials.values()))
        self._parsing: tokenizers.Tokenizer | None = None  # the same, reading specials; made when needed
        self._constants: dict[str, list[int]] = {}
        self.vocab_size: int = max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int, kind: str = "bbpe") -> Tokenizer:
        """Learn a vocabulary of at most `vocab_size` tokens (specials included) from texts."""
        backend = TOKENIZERS[kind]((well_formed(text) for text in texts), vocab_size)
        unknown = {} if backend.token_to_id(UNK) is None else {"unk_token": UNK}
        return cls(backend, {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD, **unknown})

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read `tokenizer.json` and `tokenizer_config.json` of a Hugging Face directory."""
        path = Path(path)
        file = path / FILE
        if not file.is_file():
            raise UsageError(f"{path} holds no {FILE}; a tokenizer is loaded from that file")
        return cls.from_json(read_text(file, limit=LARGEST), _read_config(path), where=file)

    @classmethod
    def from_json(cls, text: str, config: dict[str, Any], *, where: Path) -> Tokenizer:
        """Read the text of a `tokenizer.json`; `where` names its source in errors."""
        try:
            return cls(tokenizers.Tokenizer.from_str(text), config)
        except BaseException as error:  # the backend raises bare Exception, and panics that are not even that
            if isinstance(error, UsageError | KeyboardInterrupt | SystemExit):
                raise
            raise UsageError(f"{where} is not a readable tokenizer: {str(error)[:300]}") from None

    def to_json(self) -> str:
        """Return the text of `tokenizer.json`."""
        text: str = self._backend.to_str(pretty=True)
        return text

    def save(self, path: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which transformers' AutoTokenizer reads too."""
        path = Path(path)
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **self.config}
        atomic_write(path / FILE, self.to_json())
        atomic_write(path / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, with nothing added and no special token read from it."""
        ids: list[int] = self._backend.encode(well_formed(text), add_special_tokens=False).ids
        return ids

    def encode_constant(self, text: str) -> list[int]:
        """Return the ids of a format's own short text, remembered because it comes with every turn."""
        if text not in self._constants:
            self._constants[text] = self.encode(text)
        return self._constants[text]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of many texts, on all cores."""
        checked = [well_formed(text) for text in texts]
        return [encoding.ids for encoding in self._backend.encode_batch_fast(checked, add_special_tokens=False)]

    def encode_wrapped(self, text: str, limit: int) -> list[int]:
        """Return at most `limit` ids of a text with what the tokenizer's own template puts around it ([CLS], [SEP])."""
        alone = self._backend.num_special_tokens_to_add(False)
        ids = self.encode(text)[: max(0, limit - alone)]
        if not alone:
            return ids
        marked = self._backend.encode("", add_special_tokens=True)
        before = _leading(self._backend, marked.ids)
        return [*marked.ids[:before], *ids, *marked.ids[before:]]

    def encode_document(self, text: str) -> list[int]:
        """Return the ids of a whole document, between BOS and EOS as far as the tokenizer has them."""
        return self.between(self.encode(text))

    def between(self, ids: list[int]) -> list[int]:
        """Put BOS before ids and EOS behind them, as far as the tokenizer has them."""
        before = [] if self.bos_id is None else [self.bos_id]
        return [*before, *ids, *([] if self.eos_id is None else [self.eos_id])]

    def encode_rendered(self, text: str) -> list[tuple[int, int, int]]:
        """Return (id, start, end) of a template's own output, in which special tokens are read as such.

        Never for text from outside: whoever writes that could write the end of their own turn.
        """
        if self._parsing is None:
            self._parsing = tokenizers.Tokenizer.from_str(self._backend.to_str())
        encoding = self._parsing.encode(well_formed(text), add_special_tokens=False)
        return [(id, start, end) for id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)]

    def encode_located(self, text: str) -> list[tuple[int, int, int]]:
        """Return (id, start, end) of plain text, where start and end count its characters."""
        encoding = self._backend.encode(well_formed(text), add_special_tokens=False)
        return [(id, start, end) for id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)]

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Return the text of ids; bytes that are no UTF-8 become U+FFFD."""
        text: str = self._backend.decode([int(id) for id in ids], skip_special_tokens=skip_special)
        return text

    def detokenizer(self, *, skip_special: bool = True) -> Detokenizer:
        """Return a decoder that takes one id at a time and never gives out a broken character."""
        return Detokenizer(self._pieces, skip_special=skip_special)

    def normalize(self, text: str) -> str:
        """Return the text as the tokenizer sees it (NFC for ours): what `decode(encode(text))` gives back."""
        normalizer = self._backend.normalizer
        return well_formed(text) if normalizer is None else str(normalizer.normalize_str(well_formed(text)))

    def token_bytes(self, id: int) -> bytes:
        """Return the bytes that one token stands for inside a text (a special's own spelling)."""
        return self._pieces.bytes_of(id)

    @property
    def piecewise(self) -> bool:
        """Whether each token has a text of its own, which no later token changes."""
        return self._pieces.mode != WHOLE

    def byte_lengths(self) -> list[int]:
        """Return the bytes of text of every id, 0 for specials: what bits per byte divide by, and which ids count."""
        specials = set(self.specials.values())
        return [0 if id in specials else len(self.token_bytes(id)) for id in range(self.vocab_size)]

    def token(self, id: int) -> str | None:
        """Return the vocabulary's own spelling of a token, or None if there is no such id."""
        name: str | None = self._backend.id_to_token(id)
        return name

    def token_id(self, name: str) -> int | None:
        """Return the id of a token in the vocabulary's own spelling, or None."""
        return self._id(name)

    def _id(self, name: str | None) -> int | None:
        id: int | None = None if name is None else self._backend.token_to_id(name)
        return id


def _leading(backend: tokenizers.Tokenizer, marks: list[int]) -> int:
    """Return how many of a template's special tokens stand before the text."""
    probe = next((id for id in range(backend.get_vocab_size()) if id not in marks), None)
    plain = None if probe is None else backend.id_to_token(probe)
    wrapped = backend.encode([plain], is_pretokenized=True, add_special_tokens=True) if plain else None
    mask = [] if wrapped is None else wrapped.special_tokens_mask
    return mask.index(0) if 0 in mask else min(1, len(marks))


def well_formed(text: str) -> str:
    """Refuse a string that UTF-8 cannot carry (a lone surrogate, as in JSON's "\\ud83d")."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the text holds a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}, "
            "which is no Unicode text; drop it or replace it"
        ) from None
    return text


def _named(config: dict[str, Any], key: str) -> str | None:
    """Read a special token that is written as a string, as `{"content": ...}`, or not at all."""
    value = config.get(key)
    if isinstance(value, dict):
        value = value.get("content")
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{CONFIG} or {OLDER}: {key} must be a string or have a 'content' that is, not {clip(value)}")
    return well_formed(value) if value else None


def _read_config(path: Path) -> dict[str, Any]:
    config = _read_object(path / CONFIG)
    if "added_tokens_decoder" not in config:  # an older directory: the names of the specials have their own file
        config |= _read_object(path / OLDER)
    return config


def _read_object(file: Path) -> dict[str, Any]:
    return read_json(file, limit=LARGEST_CONFIG) if file.exists() else {}
