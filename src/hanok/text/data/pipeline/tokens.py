"""The stage `data` on clean documents: a tokenizer and token shards, with memory that does not grow with the corpus."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from hanok.core.artifact import Artifact, atomic_write
from hanok.core.config import Config, digest
from hanok.core.durable import sweep
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.stage import CHECKPOINTS, Stage
from hanok.text.chat import CHATS, load_chat
from hanok.text.data.pipeline.assemble import Pieces, assemble
from hanok.text.data.pipeline.clean import run_units
from hanok.text.data.pipeline.encode import Cut, number_type
from hanok.text.data.pipeline.engine import Engine
from hanok.text.data.pipeline.job import Job
from hanok.text.data.pipeline.lock import held
from hanok.text.tokenizer import Tokenizer
from hanok.text.tokenizer.fertility import evaluate

MANY = 50  # documents, from which on they are split whole
SURE = 5000  # documents, up to which validation might be empty by chance
MIB = 1 << 20


class TokensConfig(Config):
    """What to make of clean documents."""

    tokenizer: str = "bbpe"
    vocab_size: int = Field(default=1024, ge=261)
    tokenizer_bytes: int = Field(default=64 * MIB, ge=1)  # of a fair sample, from which the tokenizer learns
    tokenizer_from: str | None = None  # a folder whose tokenizer is used instead
    tokenizer_sha256: str = ""  # identifies it; `pin` fills it in
    chat: str = "chatml"
    passage_chars: int = Field(default=2000, ge=100)  # of a passage, if there are too few documents to split them whole
    valid_share: float = Field(default=0.03, gt=0, lt=0.5)
    seed: int = 0

    def pin(self) -> Self:
        """Return the configuration with the hash of the tokenizer that it names."""
        if self.tokenizer_from is None:
            return self
        return self.model_copy(update={"tokenizer_sha256": digest(Tokenizer.load(self.tokenizer_from).to_json())})


def tokens_stage(engine: Engine) -> Stage:
    """Return the stage on an engine; the artifact does not depend on which."""
    run = partial(run_tokens, engine)
    return Stage(name="data", kind="tokens", config=TokensConfig, run=run, inputs={"documents": "documents"})


def run_tokens(engine: Engine, config: TokensConfig, inputs: dict[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Write the tokenizer, the shards of both splits with their origins, and `meta.json`; return what was counted."""
    artifact = Artifact.load(inputs["documents"], verify=False)  # the stage has compared the files already
    files = sorted(str(file.resolve()) for file in (artifact.path / "documents").glob("*.jsonl"))
    cut = _cut(config, files, int(artifact.metrics["documents"]))
    work = (out / CHECKPOINTS).resolve()
    with held(work / "lock"):
        sweep(out)
        tokenizer = _tokenizer(config, files, cut, int(artifact.metrics["bytes"]), out, log)
        chat = (load_chat(config.tokenizer_from, tokenizer) if config.tokenizer_from else None) or CHATS[config.chat]()
        chat.save(out)
        job = {"tokenizer": str(out.resolve()), "files": files, "cut": cut._asdict()}
        run_units(engine, Job("encode", job, str(work)), range(len(files)), log)
        pieces = Pieces(work / "encode", len(files), number_type(tokenizer))
        log.progress("writing shards")
        train = assemble(out / "train", pieces, pieces.order(valid=False), tokenizer.vocab_size)
        valid = assemble(out / "valid", pieces, pieces.order(valid=True), tokenizer.vocab_size)
    fertility = evaluate(tokenizer)
    summary = {
        **{f"train_{key}": train[key] for key in ("tokens", "bytes", "documents")},
        **{f"valid_{key}": valid[key] for key in ("tokens", "bytes", "documents")},
        "corpus_bytes": train["bytes"] + valid["bytes"],
        "corpus_sha256": digest([artifact.files[f"documents/{Path(file).name}"] for file in files]),
        "task_items": 0,
        "task_share": 0.0,
        "vocab_size": tokenizer.vocab_size,
        "bytes_per_token": valid["bytes"] / max(valid["tokens"], 1),
        "english_chars_per_token": fertility.english.chars_per_token,
        "korean_tokens_per_syllable": fertility.korean.tokens_per_syllable,
        "korean_tokens_per_eojeol": fertility.korean.tokens_per_eojeol,
        "nfd_ratio": fertility.nfd_ratio,
    }
    source = ", ".join(artifact.config.get("paths", ()))
    meta = {"source": source, "chat": config.chat, **summary, "fertility": fertility.to_dict()}
    atomic_write(out / "meta.json", json.dumps(meta, indent=2, ensure_ascii=False) + "\n")
    return summary


def _cut(config: TokensConfig, files: Sequence[str], documents: int) -> Cut:
    """Return how documents are split; of a few documents, whose hashes may leave validation empty, one is chosen."""
    chars = config.passage_chars if documents < MANY else None
    cut = Cut(chars, config.valid_share, "", config.seed)
    if documents > SURE:
        return cut
    texts = [digest(text) for text in _texts(files, cut) if not cut.is_valid(text)]
    count = sum(1 for _ in _texts(files, cut))
    if count < 2 or not texts:
        raise UsageError(f"the data is too small to split: {count} passages of {documents} documents")
    return cut if len(texts) < count else cut._replace(valid_text=min(texts))


def _tokenizer(config: TokensConfig, files: Sequence[str], cut: Cut, size: int, out: Path, log: Log) -> Tokenizer:
    """Return the tokenizer that is named, or one trained on a fair sample of the training split, and save it."""
    if config.tokenizer_from is not None:
        tokenizer = Tokenizer.load(config.tokenizer_from)
        tokenizer.save(out)
        return tokenizer
    finished = out / CHECKPOINTS / "tokenizer"
    if not finished.is_file():
        log.progress(f"training a tokenizer of {config.vocab_size} on {min(size, config.tokenizer_bytes) / 1e6:.1f} MB")
        share = config.tokenizer_bytes / max(size, 1)
        texts = (text for text in _texts(files, cut) if not cut.is_valid(text) and _sampled(text, share))
        Tokenizer.train(texts, vocab_size=config.vocab_size, kind=config.tokenizer).save(out)
        atomic_write(finished, "")
    return Tokenizer.load(out)


def _sampled(text: str, share: float) -> bool:
    return share >= 1 or int(digest(["tokenizer", text])[:13], 16) / 16**13 < share


def _texts(files: Sequence[str], cut: Cut) -> Iterator[str]:
    for file in files:
        with open(file, encoding="utf-8") as lines:
            yield from (piece.text for piece in cut.pieces(lines))
