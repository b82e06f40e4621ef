"""The vocabulary that a GGUF file carries, as the `tokenizers` JSON that it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hanok.core.errors import UsageError
from hanok.model.gguf import pretokenizer
from hanok.model.gguf.cursor import Strings, Value
from hanok.model.gguf.reader import GGUF
from hanok.model.weights import TokenIds

PREFIX = "tokenizer.ggml."
ORIGINAL = "tokenizer.huggingface.json"  # GGUF's key for the whole file that the vocabulary was made from
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # of the values of token_type
ENDS = ("eos", "eot", "eom")  # end of sequence, of turn, of message: all of them end an answer


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as plain data: `tokenizer.json`, and what `tokenizer_config.json` says beside it.

    `split` is llama.cpp's name for the rule that cuts text into words before the merges; None asks for the name to be
    found from the JSON.
    """

    json: str
    config: dict[str, Any] = field(default_factory=dict)
    split: str | None = None


def read_ids(file: GGUF, vocab: int) -> TokenIds:
    """Return the special tokens that the metadata name."""
    found = {name: _id(file, name, vocab) for name in ("bos", *ENDS, "padding")}
    ends = dict.fromkeys(end for name in ENDS if (end := found[name]) is not None)
    return TokenIds(found["bos"], tuple(ends), found["padding"])


def write_ids(ids: TokenIds, vocab: int) -> dict[str, Value]:
    """Return the metadata that name special tokens."""
    if len(ids.eos) > len(ENDS):
        raise UsageError(f"GGUF has room for {len(ENDS)} tokens that end an answer, and this model has {len(ids.eos)}")
    named = {"bos": ids.bos, "padding": ids.pad, **dict(zip(ENDS, ids.eos, strict=False))}
    for name, id in named.items():
        if id is not None and not 0 <= id < vocab:
            raise UsageError(f"the {name} token {id} is not one of the model's {vocab:,} tokens")
    return {f"{PREFIX}{name}_token_id": np.uint32(id) for name, id in named.items() if id is not None}


def read_vocabulary(file: GGUF, vocab: int) -> tuple[Vocabulary | None, str | None]:
    """Return the vocabulary, or None and the reason; one that contradicts the model is refused."""
    kind = file.text(PREFIX + "model")
    if kind in (None, "none", "no_vocab"):
        return None, f"{file.path} carries no vocabulary"
    tokens = file.texts(PREFIX + "tokens")
    if tokens is None or len(tokens) != vocab:
        file.refuse(f"{PREFIX}tokens lists {len(tokens or ()):,} tokens, but the model has {vocab:,}")
    split = file.text(PREFIX + "pre", "default")
    original = file.text(ORIGINAL)
    if original is not None:
        _check_original(file, original, tokens)
        return Vocabulary(original, _config(file, tokens), split), None
    if kind != "gpt2":
        return (
            None,
            f"{file.path} carries a vocabulary of the kind {kind!r:.40}; only byte-level BPE ('gpt2') is rebuilt",
        )
    if split not in pretokenizer.RULES:
        known = ", ".join(pretokenizer.RULES)
        return None, f"{file.path}: the vocabulary's word rule {split!r:.40} is not known here (known: {known})"
    data = _rebuild(file, tokens, split)
    return Vocabulary(json.dumps(data, ensure_ascii=False), _config(file, tokens), split), None


def write_vocabulary(vocabulary: Vocabulary | None, vocab: int) -> dict[str, Value]:
    """Return the metadata of a byte-level BPE vocabulary, padded with unused tokens to the model's size."""
    if vocabulary is None:
        return {PREFIX + "model": "no_vocab"}
    try:
        data = json.loads(vocabulary.json)
        pieces: dict[str, int] = dict(data["model"]["vocab"])
        merges = [_pair(merge) for merge in data["model"]["merges"]]
        added = [(str(token["content"]), int(token["id"]), bool(token["special"])) for token in data["added_tokens"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"GGUF carries byte-level BPE, and this tokenizer's JSON is something else: {error!r}"
        ) from None
    if data["model"].get("type", "BPE") != "BPE" or "ByteLevel" not in json.dumps(data.get("decoder")):
        raise UsageError("GGUF carries byte-level BPE, and this tokenizer is something else")
    tokens = [f"[PAD{id}]" for id in range(vocab)]
    types = np.full(vocab, UNUSED, np.int32)
    specials = {content: CONTROL if special else USER_DEFINED for content, _, special in added}
    for content, id in [*pieces.items(), *((content, id) for content, id, _ in added)]:
        if not 0 <= id < vocab:
            raise UsageError(f"the token {content!r} has the id {id}, but the model has {vocab:,} tokens")
        tokens[id], types[id] = content, specials.get(content, NORMAL)
    config = vocabulary.config
    metadata: dict[str, Value] = {
        PREFIX + "model": "gpt2",
        PREFIX + "pre": vocabulary.split or pretokenizer.name_of(data),
        PREFIX + "tokens": tokens,
        PREFIX + "token_type": types,
        PREFIX + "merges": merges,
        PREFIX + "add_bos_token": np.bool_(config.get("add_bos_token", False)),
        ORIGINAL: vocabulary.json,
    }
    if isinstance(config.get("chat_template"), str):
        metadata["tokenizer.chat_template"] = config["chat_template"]
    return metadata


def _pair(merge: Any) -> str:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    if " " in left or " " in right:
        raise ValueError(f"the merge {merge!r} holds a space")
    return f"{left} {right}"


def _id(file: GGUF, name: str, vocab: int) -> int | None:
    key = f"{PREFIX}{name}_token_id"
    if key not in file.metadata:
        return None
    id = file.whole(key)
    if id in (-1, 0xFFFFFFFF):
        return None
    if not 0 <= id < vocab:
        file.refuse(f"{key} is {id:,}, but the model has {vocab:,} tokens")
    return id


def _config(file: GGUF, tokens: Strings) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name, ours in (("bos", "bos_token"), ("eos", "eos_token"), ("padding", "pad_token")):
        id = _id(file, name, len(tokens))
        if id is not None:
            config[ours] = tokens[id]
    for flag in ("add_bos_token", "add_eos_token"):
        value = file.metadata.get(PREFIX + flag)
        if isinstance(value, np.bool_):
            config[flag] = bool(value)
    template = file.text("tokenizer.chat_template")
    return config if template is None else {**config, "chat_template": template}


def _types(file: GGUF, count: int) -> list[int]:
    value = file.metadata.get(PREFIX + "token_type")
    if value is None:
        return [NORMAL] * count
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu" or len(value) != count:
        file.refuse(f"{PREFIX}token_type must be {count:,} whole numbers, one for each token")
    return [int(kind) for kind in value]


def _rebuild(file: GGUF, tokens: Strings, split: str) -> dict[str, Any]:
    """Return the `tokenizers` JSON of tokens, merges and a named word rule."""
    types = _types(file, len(tokens))
    merges = file.texts(PREFIX + "merges")
    if merges is None:
        file.refuse(f"{PREFIX}merges is missing")
    pieces = {token: id for id, token in enumerate(tokens) if types[id] == NORMAL}
    added = {token: id for id, token in enumerate(tokens) if types[id] in (CONTROL, USER_DEFINED)}
    if len(pieces) + len(added) != sum(kind in (NORMAL, CONTROL, USER_DEFINED) for kind in types):
        file.refuse(f"{PREFIX}tokens lists a token twice")
    pairs = []
    for merge in merges:
        left, space, right = merge.partition(" ")
        if not space or left not in pieces or right not in pieces or left + right not in pieces:
            file.refuse(f"{PREFIX}merges: {merge[:80]!r} is not two tokens that make a third")
        pairs.append([left, right])
    if sorted(added.values()) != list(range(len(pieces), len(pieces) + len(added))):
        pieces |= added  # `tokenizers` numbers added tokens itself, behind the others, unless the model has them
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": id, "content": token, **flags, "special": types[id] == CONTROL} for token, id in added.items()
        ],
        **pretokenizer.RULES[split].parts(),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "ignore_merges": pretokenizer.RULES[split].whole_words,
            "vocab": pieces,
            "merges": pairs,
        },
    }


def _check_original(file: GGUF, text: str, tokens: Strings) -> None:
    """Refuse an embedded tokenizer.json that gives a token another id than the list that llama.cpp reads."""
    try:
        data: Mapping[str, Any] = json.loads(text)
        named = list(data["model"]["vocab"].items()) if isinstance(data["model"]["vocab"], dict) else []
        named += [(token["content"], token["id"]) for token in data.get("added_tokens") or []]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        file.refuse(f"{ORIGINAL} is not a tokenizer: {error!r:.80}")
    for content, id in named:
        if not isinstance(id, int) or not 0 <= id < len(tokens) or tokens[id] != content:
            file.refuse(f"{ORIGINAL} and {PREFIX}tokens disagree about the token {content!r:.80}")
