"""The data stage: documents and task items in, a tokenizer and token shards out."""

from __future__ import annotations

import json
import platform
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from hanok.core.artifact import atomic_write, file_sha256
from hanok.core.config import Config, digest
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.rng import derive
from hanok.text.chat import CHATS, ChatSpec
from hanok.text.data.corpus import Corpus, python_corpus
from hanok.text.data.files import find_files
from hanok.text.data.passage import passages
from hanok.text.data.read import read_documents
from hanok.text.data.shard import write_shards
from hanok.text.data.split import split_of
from hanok.text.task import Item, TaskSpec, make_task
from hanok.text.tokenizer import Tokenizer
from hanok.text.tokenizer.fertility import evaluate

MANY = 50  # documents, from which on they are split whole
FAMILIES = ("addition", "copy", "reversal", "json_extract", "josa")


class DataConfig(Config):
    """What to read (no paths: the documentation that ships with Python), and what to make of it."""

    paths: tuple[str, ...] = ()
    column: str = "text"
    tokenizer: str = "bbpe"
    vocab_size: int = Field(default=1024, ge=261)
    chat: str = "chatml"
    tasks: tuple[TaskSpec, ...] = FAMILIES
    task_items: int | None = Field(default=None, ge=0)  # of each task, as chat documents
    task_share: float | None = Field(default=None, ge=0, lt=1)  # or: of the training tokens (a quarter unless given)
    tokenizer_items: int = Field(default=4000, ge=0)  # of each task, among the texts that the tokenizer learns from
    passage_chars: int = Field(default=2000, ge=100)
    min_chars: int = Field(default=80, ge=1)  # shorter documents and docstrings of the Python corpus are dropped
    max_bytes: int | None = Field(default=None, ge=1)  # of the corpus
    valid_share: float = Field(default=0.03, gt=0, lt=0.5)
    seed: int = 0
    source: str = ""  # identifies the content of what is read; `pin` fills it in

    @model_validator(mode="after")
    def _one_amount(self) -> DataConfig:
        if self.task_items is not None and self.task_share is not None:
            raise ValueError("give task_items or task_share, not both")
        return self

    def pin(self) -> DataConfig:
        """Return the configuration with the hash of its input files, so that changed files make a new artifact."""
        if self.paths:
            source = digest([[str(file), file_sha256(file)] for file in find_files(self.paths)])
        else:
            source = f"{platform.python_implementation()} {platform.python_version()}"
        return self.model_copy(update={"source": source})


@dataclass(frozen=True)
class Split:
    """The texts of one split, and the messages of conversations."""

    texts: list[str]
    talks: list[list[dict[str, Any]]]

    @property
    def bytes(self) -> int:
        """Return the UTF-8 bytes of all contents."""
        contents = (message["content"] for talk in self.talks for message in talk)
        return sum(len(text.encode()) for source in (self.texts, contents) for text in source)


def run_data(config: DataConfig, inputs: dict[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Write the tokenizer, `train/` and `valid/` shards and `meta.json`; return what was counted."""
    if config.source and config.pin().source != config.source:
        raise UsageError("the input files have changed since this configuration was made; run it without 'source'")
    log.progress("reading the corpus")
    train, valid, corpus = _read(config)
    tokenizer, chat = _tokenizer(config, train, log), CHATS[config.chat]()
    tokenizer.save(out)
    chat.save(out)
    log.progress("encoding")
    documents = {"train": _encode(train, tokenizer, chat), "valid": _encode(valid, tokenizer, chat)}
    items = _items(config, sum(map(len, documents["train"])), tokenizer, chat)
    answered = Split([], [item.messages(item.answer) for item in items])
    spoken = _encode(answered, tokenizer, chat)
    documents["train"] += spoken
    sizes = {"train": train.bytes + answered.bytes, "valid": valid.bytes}
    counts = {name: _write(out / name, documents[name], tokenizer, config.seed, sizes[name]) for name in sizes}
    fertility = evaluate(tokenizer)
    summary = {
        "train_tokens": counts["train"]["tokens"],
        "train_bytes": counts["train"]["bytes"],
        "train_documents": counts["train"]["documents"],
        "valid_tokens": counts["valid"]["tokens"],
        "valid_bytes": counts["valid"]["bytes"],
        "valid_documents": counts["valid"]["documents"],
        "corpus_bytes": corpus.bytes,
        "corpus_sha256": corpus.sha256,
        "task_items": len(items),
        "task_share": sum(map(len, spoken)) / counts["train"]["tokens"],
        "vocab_size": tokenizer.vocab_size,
        "bytes_per_token": counts["valid"]["bytes"] / max(counts["valid"]["tokens"], 1),
        "english_chars_per_token": fertility.english.chars_per_token,
        "korean_tokens_per_syllable": fertility.korean.tokens_per_syllable,
        "korean_tokens_per_eojeol": fertility.korean.tokens_per_eojeol,
        "nfd_ratio": fertility.nfd_ratio,
    }
    meta = {"source": corpus.source, "chat": config.chat, **summary, "fertility": fertility.to_dict()}
    atomic_write(out / "meta.json", json.dumps(meta, indent=2, ensure_ascii=False) + "\n")
    return summary


def _tokenizer(config: DataConfig, train: Split, log: Log) -> Tokenizer:
    """Train the tokenizer on the training split and some items of each task."""
    log.progress(f"training a tokenizer of {config.vocab_size} on {train.bytes / 1e6:.1f} MB")
    n = config.tokenizer_items if config.task_items is None else min(config.tokenizer_items, config.task_items)
    items = [item for task in map(make_task, config.tasks) for item in task.items("train", n, config.seed)]
    said = [message["content"] for talk in train.talks for message in talk]
    asked = [text for item in items for text in (item.prompt, item.answer)]
    return Tokenizer.train([*train.texts, *said, *asked], vocab_size=config.vocab_size, kind=config.tokenizer)


def _items(config: DataConfig, corpus_tokens: int, tokenizer: Tokenizer, chat: ChatSpec) -> list[Item]:
    """Return the task items of the training documents: a number of each task, or a share of the tokens."""
    tasks = [make_task(task) for task in config.tasks]
    if not tasks:
        return []
    amounts = [config.task_items or 0] * len(tasks)
    if config.task_items is None:
        share = 0.25 if config.task_share is None else config.task_share
        wanted = corpus_tokens * share / (1 - share) / len(tasks)
        probes = [Split([], [item.messages(item.answer) for item in task.items("train", 50, 0)]) for task in tasks]
        amounts = [round(wanted * 50 / sum(map(len, _encode(probe, tokenizer, chat)))) for probe in probes]
    return [item for task, n in zip(tasks, amounts, strict=True) for item in task.items("train", n, config.seed)]


def _read(config: DataConfig) -> tuple[Split, Split, Corpus]:
    """Return the training and the validation split of the corpus, and the whole of it.

    Many documents are split whole, because passages of one document give each other away; a few, such as one long text
    file, have to be split by passages.
    """
    if config.paths:
        documents = list(read_documents(config.paths, column=config.column))
        texts, source = [item.text for item in documents if item.messages is None], ", ".join(config.paths)
        talks = [item.messages for item in documents if item.messages is not None]
    else:
        corpus = python_corpus(min_chars=config.min_chars)
        texts, talks, source = corpus.documents, [], corpus.source
    if len(texts) < MANY:
        texts = _passages(texts, config.passage_chars)
    texts = _limit(list(dict.fromkeys(texts)), config.max_bytes)
    spoken = [json.dumps(talk, ensure_ascii=False) for talk in talks]
    marks, talk_marks = _valid(texts, config.valid_share), _valid(spoken, config.valid_share)
    if not any(marks + talk_marks):
        raise UsageError(f"the data is too small to split: {len(texts)} passages, {len(talks)} conversations")
    splits = [
        Split(
            _passages([text for text, mark in zip(texts, marks, strict=True) if mark == wanted], config.passage_chars),
            [talk for talk, mark in zip(talks, talk_marks, strict=True) if mark == wanted],
        )
        for wanted in (False, True)
    ]
    return splits[0], splits[1], Corpus.of([*texts, *spoken], source)


def _passages(texts: Sequence[str], limit: int) -> list[str]:
    pieces = (piece.strip("\n") for text in texts for piece in passages(text, limit))
    return [piece for piece in pieces if piece.strip()]


def _valid(texts: Sequence[str], share: float) -> list[bool]:
    """Mark the texts whose hash puts them into validation; of a few texts, one."""
    marks = [split_of(text, {"valid": share}) == "valid" for text in texts]
    if not any(marks) and len(marks) > 1:
        marks[min(range(len(texts)), key=lambda i: digest(texts[i]))] = True
    return marks


def _limit(texts: list[str], max_bytes: int | None) -> list[str]:
    if max_bytes is None:
        return texts
    kept: list[str] = []
    size = 0
    # By hash rather than from the front, so that a limit is a fair sample.
    for text in sorted(texts, key=digest):
        size += len(text.encode())
        if size > max_bytes and kept:
            break
        kept.append(text)
    return kept


def _encode(split: Split, tokenizer: Tokenizer, chat: ChatSpec) -> list[list[int]]:
    texts = [tokenizer.between(ids) for ids in tokenizer.encode_many(split.texts)]
    return texts + [chat.encode(tokenizer, talk).tokens for talk in split.talks]


def _write(path: Path, documents: list[list[int]], tokenizer: Tokenizer, seed: int, num_bytes: int) -> dict[str, Any]:
    """Write a split's documents in random order."""
    if path.exists():
        shutil.rmtree(path)  # from a run that was stopped
    random.Random(derive(seed, path.name)).shuffle(documents)
    return write_shards(path, documents, vocab_size=tokenizer.vocab_size, num_bytes=num_bytes)
