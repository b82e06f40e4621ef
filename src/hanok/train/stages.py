"""Pre-training and supervised fine-tuning as stages, and as plain functions of the same shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from hanok.core.config import spec_type
from hanok.core.device import pick
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.stage import Stage
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.text.data.chat_stream import ChatStream
from hanok.text.data.read import read_conversations
from hanok.text.data.shard import Shards
from hanok.text.data.stream import TokenStream
from hanok.text.tokenizer import Tokenizer
from hanok.train.bundle import Bundle
from hanok.train.config import TrainingConfig
from hanok.train.data import file_of, mean_loss, shards_of, validation
from hanok.train.hook import Hook
from hanok.train.hook.validate import Measure
from hanok.train.objective.clm import NextToken
from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.adamw import AdamWConfig
from hanok.train.optim.muon import MuonConfig
from hanok.train.run import Runner
from hanok.train.schedule import SCHEDULES
from hanok.train.schedule.linear import Linear

Metrics = dict[str, Any]


class PretrainConfig(TrainingConfig):
    """Pre-training: a preset with its dials, or a whole `model`, whose vocabulary the tokenizer must fit."""

    preset: str = "llama-tiny"
    dials: dict[str, int] = Field({}, description="dim, depth, heads, ... of the preset")
    model: ModelConfig | None = None
    optimizer: spec_type(OPTIMIZERS) = MuonConfig()  # type: ignore[valid-type]
    schedule: spec_type(SCHEDULES) = Linear.Config(final=0.1)  # type: ignore[valid-type]
    validation_tokens: int = Field(32768, ge=1)

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.model is not None and self.dials:
            raise ValueError("dials turn a preset; with a whole model, change it there")
        if self.model is None:
            self.architecture(256)  # a wrong name or dial is said before data is prepared
        return self

    def architecture(self, vocab: int) -> ModelConfig:
        """Return the model to build for a vocabulary."""
        if self.model is None:
            context = max(self.length, 512)
            return ModelConfig.preset(self.preset, **{"vocab": vocab, "context": context, **self.dials})
        if self.model.vocab < vocab:
            raise UsageError(f"model.vocab is {self.model.vocab}, but the tokenizer has {vocab} tokens")
        return self.model


class SFTConfig(TrainingConfig):
    """Fine-tuning on conversations: the assistant's tokens count; `chat` is for a model that has no format yet."""

    chat: str = "chatml"
    optimizer: spec_type(OPTIMIZERS) = AdamWConfig(lr=1e-3, weight_decay=0.0)  # type: ignore[valid-type]


def pretrain(
    config: PretrainConfig,
    inputs: Mapping[str, Path],
    out: Path,
    log: Log,
    *,
    measure: Measure | None = None,
    hooks: Sequence[Hook] = (),
) -> Metrics:
    """Train a new model on token shards and write it to `out`.

    `measure(model)` replaces the loss on the validation shards; `hooks` are called around every step.

    `inputs["tokens"]` holds tokenizer.json and the shards (train/ and, if there are, valid/).
    """
    tokens = inputs["tokens"]
    tokenizer = Tokenizer.load(tokens)
    model = Model(config.architecture(tokenizer.vocab_size), seed=config.seed).to(pick(config.device))
    if model.config.context < config.length:
        raise UsageError(
            f"rows of length {config.length} are longer than the model's context of {model.config.context}"
        )
    train = shards_of(tokens, "train")
    assert train is not None
    source = TokenStream(Shards(train), length=config.length, batch=config.batch, seed=config.seed)
    valid = shards_of(tokens, "valid")
    if measure is None and valid is not None:
        measure = validation(valid, length=config.length, batch=config.batch, max_tokens=config.validation_tokens)
    runner = Runner(config, out, log, title="pretrain", names="pretrain")
    record = runner.run(model, source, NextToken(NextToken.Config()), measure=measure, hooks=hooks)
    Bundle(model, tokenizer).save(out)
    return {**record, "parameters": sum(p.numel() for p in model.parameters()), "epochs": source.epochs}


def sft(
    config: SFTConfig,
    inputs: Mapping[str, Path],
    out: Path,
    log: Log,
    *,
    measure: Measure | None = None,
    hooks: Sequence[Hook] = (),
) -> Metrics:
    """Fine-tune a model on conversations and write it to `out`.

    `inputs["conversations"]` is a file, or a directory with conversations.jsonl or train.jsonl; a valid.jsonl beside
    a train.jsonl is measured as val/loss.
    """
    bundle = Bundle.load(inputs["model"], device=config.device).with_chat(config.chat)
    file = file_of(inputs["conversations"], "conversations.jsonl", "train.jsonl")
    source = _stream(bundle, file, config)
    if source.truncated or source.dropped:
        log.info(
            f"sft: of {len(source.traces)} conversations {source.truncated} were cut at {config.length} tokens "
            f"and {source.dropped} more dropped, because no word of the assistant was left"
        )
    valid = file.with_name("valid.jsonl")
    if measure is None and file.name == "train.jsonl" and valid.is_file():
        held = _one_epoch(_stream(bundle, valid, config))

        def measure(model: Model) -> dict[str, float]:
            return {"val/loss": mean_loss(model, held)}

    runner = Runner(config, out, log, title="sft")
    record = runner.run(bundle.model, source, NextToken(NextToken.Config()), measure=measure, hooks=hooks)
    bundle.save(out)
    return {**record, "epochs": source.epochs}


def _stream(bundle: Bundle, file: Path, config: TrainingConfig) -> ChatStream:
    conversations = read_conversations([file])
    return ChatStream(
        conversations, bundle.tokenizer, bundle.speaking(), length=config.length, batch=config.batch, seed=config.seed
    )


def _one_epoch(stream: ChatStream) -> list[Batch]:
    """Return about one epoch of a stream."""
    batches = []
    while stream.epochs < 1:
        batches.append(stream.next_batch())
    return batches


PRETRAIN = Stage("pretrain", "model", PretrainConfig, pretrain, {"tokens": "tokens"})
SFT = Stage("sft", "model", SFTConfig, sft, {"model": "model", "conversations": "conversations"})
