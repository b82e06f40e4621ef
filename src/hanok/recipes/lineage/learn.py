"""Language: one contestant trained on the shared text, and what it is worth on text that nobody has seen."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hanok.classic.ngram import NGram
from hanok.classic.word2vec import Word2Vec
from hanok.core.artifact import atomic_write
from hanok.core.config import Config
from hanok.core.errors import UsageError
from hanok.core.log import Log, read_metrics
from hanok.core.stage import Stage
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.recipes.lineage.given import Given, Halves, halved, logits_of
from hanok.recipes.lineage.speed import costs, decoding_speed
from hanok.text.data.shard import Shards
from hanok.text.data.stream import TokenStream, window_batch
from hanok.text.tokenizer import Tokenizer
from hanok.train.bundle import Bundle
from hanok.train.config import TrainingConfig
from hanok.train.data import shards_of
from hanok.train.run import Runner

WINDOW = 128
SHOWN = 32  # windows measured on the way
Json = dict[str, Any]


class LearnConfig(TrainingConfig):
    """One contestant: its model, whether it `reads` the past as its own prefix or as a source, and how it starts."""

    name: str
    model: ModelConfig
    reads: Literal["prefix", "source"] = "prefix"
    start: Literal["random", "word2vec"] = "random"
    evaluation_tokens: int = Field(32768, ge=WINDOW)
    length: int = WINDOW


class CountConfig(Config):
    """The n-gram model: the best order and smoothing on half of the validation text, measured on the other half."""

    orders: tuple[int, ...] = (2, 3, 4, 5)
    train_tokens: int = Field(ge=2)
    evaluation_tokens: int = Field(32768, ge=WINDOW)


def learn(config: LearnConfig, inputs: dict[str, Path], out: Path, log: Log) -> Json:
    """Train, measure, and write the model, bits.json (of every window) and curve.json (bits per byte on the way)."""
    tokens = inputs["tokens"]
    tokenizer, model = Tokenizer.load(tokens), Model(config.model, seed=config.seed)
    train = shards_of(tokens, "train")
    assert train is not None
    seconds = 0.0
    if config.start == "word2vec":
        seconds = start_from_words(model, Shards(train), _read(config), config.seed, log)
    stream = TokenStream(Shards(train), length=config.length, batch=config.batch, seed=config.seed)
    held, sizes = held_out(tokens, tokenizer, config.evaluation_tokens)
    some = held[:: max(1, len(held) // SHOWN)], sizes[:: max(1, len(held) // SHOWN)]

    def measure(model: Model) -> dict[str, float]:
        return {"val/bits_per_byte": float(network_bits(model, some[0], config.reads).sum() / some[1].sum())}

    source = Halves(stream) if config.reads == "source" else stream
    record = Runner(config, out, log, title=config.name).run(model, source, Given(), measure=measure)
    bits = network_bits(model, held, config.reads)
    Bundle(model, tokenizer).save(out)
    _write_bits(out, bits, sizes)
    read = _read(config)
    atomic_write(out / "curve.json", json.dumps(_curve(out, read)) + "\n")
    return {
        **_bits(bits, sizes),
        "train_loss": record["loss"],
        "steps": record["steps"],
        "tokens_read": read,
        "targets": read // 2 if config.reads == "source" else read,
        "training_seconds": record["seconds"] + seconds,
        "word2vec_seconds": seconds,
        "training_tokens_per_second": read / record["seconds"],
        "decoding_tokens_per_second": decoding_speed(model, held),
        "epochs": stream.epochs,
        "lr": config.optimizer.lr,
        **costs(model),
    }


def count_ngrams(config: CountConfig, inputs: dict[str, Path], out: Path, log: Log) -> Json:
    """Count the same tokens that the networks read, in as many documents; write the model and bits.json."""
    tokens = inputs["tokens"]
    tokenizer, train, valid = Tokenizer.load(tokens), shards_of(tokens, "train"), shards_of(tokens, "valid")
    assert train is not None
    if valid is None:
        raise UsageError(f"{tokens} holds no validation tokens (valid/), on which everybody is measured")
    started, documents, seen = time.perf_counter(), [], 0
    for document in Shards(train).documents():
        documents.append(document)
        seen += len(document)
        if seen >= config.train_tokens:
            break
    chosen = list(Shards(valid).documents())[::2]
    best: tuple[float, NGram] | None = None
    for order in config.orders:
        log.progress(f"ngram: counting order {order}")
        spec = {"order": order, "vocab_size": tokenizer.vocab_size, "smoothing": "modified_kneser_ney"}
        model = NGram(NGram.Config.parse(spec)).fit(documents)
        perplexity = model.perplexity(chosen)
        best = (perplexity, model) if best is None or perplexity < best[0] else best
    assert best is not None
    seconds, model = time.perf_counter() - started, best[1]
    held, sizes = held_out(tokens, tokenizer, config.evaluation_tokens)
    bits = ngram_bits(model, held)
    model.save(out / "ngram.safetensors")
    _write_bits(out, bits, sizes)
    begun = time.perf_counter()
    for row in held[:8]:
        model.distribution(row[: WINDOW // 2].numpy()).argmax()
    speed = 8 / (time.perf_counter() - begun)
    return {
        **_bits(bits, sizes),
        "order": model.config.order,
        "tokens_read": seen,
        "targets": seen,
        "training_seconds": seconds,
        "training_tokens_per_second": seen / seconds,
        "decoding_tokens_per_second": speed,
        "parameters": sum(model.sizes),
        "parameters_active": model.config.order,
        "parameters_body": sum(model.sizes),
        "parameters_body_active": model.config.order,
        "bytes_per_token": 0,
        "bytes_per_sequence": 8 * (model.config.order - 1),
        "bytes_per_source_token": 0,
    }


def held_out(tokens: Path, tokenizer: Tokenizer, most: int) -> tuple[Tensor, Tensor]:
    """Return windows (n, WINDOW + 1) that overlap by half, and the bytes of the targets in their second halves."""
    valid = shards_of(tokens, "valid")
    if valid is None:
        raise UsageError(f"{tokens} holds no validation tokens (valid/), on which everybody is measured")
    shards, half = Shards(valid), WINDOW // 2
    n = min(most // half, (len(shards) - half - 1) // half)
    if n < 2:
        raise UsageError(f"{valid} holds {len(shards)} tokens, too few to measure on ({2 * WINDOW} would do)")
    rows = np.stack([shards.read(i * half, i * half + WINDOW + 1) for i in range(n)])
    sizes = torch.tensor(tokenizer.byte_lengths())[torch.from_numpy(rows[:, half + 1 :])].sum(1).double()
    return torch.from_numpy(rows), sizes


@torch.no_grad()
def network_bits(model: Model, held: Tensor, reads: str, batch: int = 16) -> Tensor:
    """Return the bits (n,) of the second half of each window, given the first."""
    found = []
    for part in held.split(batch):
        whole = window_batch(part.numpy())
        given = halved(whole) if reads == "source" else whole
        given.weights[:, : given.weights.shape[1] - WINDOW // 2] = 0
        logits, where = logits_of(model, given)
        loss = torch.nn.functional.cross_entropy(logits, given.targets.flatten()[where], reduction="none")
        found.append(loss.double().view(len(part), -1).sum(1) / math.log(2))
    return torch.cat(found)


def ngram_bits(model: NGram, held: Tensor) -> Tensor:
    """Return the same of an n-gram model."""
    return -model.logprobs(held)[:, WINDOW // 2 :].double().sum(1) / math.log(2)


def start_from_words(model: Model, shards: Shards, most: int, seed: int, log: Log) -> float:
    """Set the embedding to word2vec's vectors of the tokens that training will read; return the seconds it took.

    Their mean, which all of them share, is taken out, and they are scaled to the deviation that the embedding starts
    with: the same table makes the logits, which would otherwise start far apart.
    """
    started = time.perf_counter()
    sentences: list[list[str]] = []
    seen = 0
    for document in shards.documents():
        sentences.append([str(token) for token in document])
        seen += len(document)
        if seen >= most:
            break
    spec = Word2Vec.Config(dim=model.embed.embedding_dim, epochs=2, min_count=1, seed=seed)
    vectors = Word2Vec.fit(spec, sentences, lambda done, _: log.progress(f"word2vec: {100 * done:.0f} %"))
    ids = torch.tensor([int(word) for word in vectors.words])
    with torch.no_grad():
        table = vectors.vectors - vectors.vectors.mean(0)
        model.embed.weight[ids] = table * (model.embed.weight.std() / table.std())
    return time.perf_counter() - started


def _read(config: LearnConfig) -> int:
    assert config.steps is not None
    return config.steps * config.batch * config.length


def _bits(bits: Tensor, sizes: Tensor) -> Json:
    rate, n = float(bits.sum() / sizes.sum()), len(bits)
    spread = float((bits - rate * sizes).square().sum()) * n / (n - 1)
    return {"bits_per_byte": rate, "bits_se": math.sqrt(spread) / float(sizes.sum()), "windows": n}


def _write_bits(out: Path, bits: Tensor, sizes: Tensor) -> None:
    atomic_write(out / "bits.json", json.dumps({"bits": bits.tolist(), "bytes": sizes.tolist()}) + "\n")


def _curve(out: Path, read: int) -> list[Json]:
    """Return tokens, seconds and bits per byte of each measurement on the way."""
    records = read_metrics(out / "metrics.jsonl")
    steps = max((record["step"] for record in records), default=1)
    seconds = {0: 0.0} | {record["step"]: record["seconds"] for record in records if "seconds" in record}
    measured = {record["step"]: record["val/bits_per_byte"] for record in records if "val/bits_per_byte" in record}
    return [
        {"tokens": read * step // steps, "seconds": seconds.get(step, 0.0), "bits_per_byte": value}
        for step, value in sorted(measured.items())
    ]


LEARN = Stage("language", "lineage", LearnConfig, learn, {"tokens": "tokens"})
COUNT = Stage("ngram", "lineage", CountConfig, count_ngrams, {"tokens": "tokens"})
