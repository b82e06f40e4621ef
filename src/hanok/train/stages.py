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
from hanok.model.weights import TokenIds
from hanok.text.batch import Batch
from hanok.text.data.changed import Changed
from hanok.text.data.chat_stream import ChatStream
from hanok.text.data.read import read_conversations
from hanok.text.data.sources import Layout, MixtureConfig, open_stream
from hanok.text.tokenizer import Tokenizer
from hanok.train.bundle import Bundle
from hanok.train.config import TrainingConfig
from hanok.train.data import file_of, mean_loss, shards_of, validation
from hanok.train.hook import Hook
from hanok.train.hook.data_plan import DataPlan, RunData
from hanok.train.hook.validate import Measure
from hanok.train.objective import OBJECTIVES
from hanok.train.objective.base import TokenMean
from hanok.train.objective.clm import NextToken
from hanok.train.optim import OPTIMIZERS
from hanok.train.optim.adamw import AdamWConfig
from hanok.train.optim.base import Growths
from hanok.train.optim.muon import MuonConfig
from hanok.train.run import Runner
from hanok.train.schedule import SCHEDULES
from hanok.train.schedule.linear import Linear
from hanok.train.transfer import TransferConfig, adapted, growths, restart

Metrics = dict[str, Any]


class PretrainConfig(TrainingConfig):
    """Pre-training: a preset with its dials, or a whole `model`, whose vocabulary the tokenizer must fit.

    With `transfer`, learning rates are those found on the smaller model that it names (muP).
    """

    preset: str = "llama-tiny"
    dials: dict[str, int] = Field({}, description="dim, depth, heads, ... of the preset")
    model: ModelConfig | None = None
    transfer: TransferConfig | None = None
    optimizer: spec_type(OPTIMIZERS) = MuonConfig()  # type: ignore[valid-type]
    schedule: spec_type(SCHEDULES) = Linear.Config(final=0.1)  # type: ignore[valid-type]
    objective: spec_type(OBJECTIVES) = NextToken.Config()  # type: ignore[valid-type]
    validation_tokens: int = Field(32768, ge=1)
    packing: bool = Field(False, description="whole documents in a row, none of which sees another")
    mixture: MixtureConfig = MixtureConfig()

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.model is not None and self.dials:
            raise ValueError("dials turn a preset; with a whole model, change it there")
        if not issubclass(OBJECTIVES[self.objective.kind], TokenMean):
            raise ValueError(f"the objective {self.objective.kind!r} needs more than text: pre-training cannot use it")
        if self.transfer is not None and (self.model is None) != (self.transfer.model is None):
            raise ValueError("transfer: the base of a preset is given by its dials, that of a whole model as a model")
        if self.model is None:
            self.architecture(256)  # a wrong name or dial is said before data is prepared
        return self

    def architecture(self, vocab: int) -> ModelConfig:
        """Return the model to build for a vocabulary."""
        if self.model is None:
            config = self._preset(vocab)
        elif self.model.vocab < vocab:
            raise UsageError(f"model.vocab is {self.model.vocab}, but the tokenizer has {vocab} tokens")
        else:
            config = self.model
        return config if self.transfer is None else adapted(config, self.base(vocab), self.transfer.power)

    def base(self, vocab: int) -> ModelConfig:
        """Return the model on which the learning rates were found."""
        assert self.transfer is not None
        if self.model is None or self.transfer.model is None:
            return self._preset(vocab, **self.transfer.dials)
        return self.transfer.model.model_copy(update={"vocab": self.model.vocab})

    def carry_over(self, model: Model) -> Growths | None:
        """Give a new model the initial scales of its base, and return what its rates depend on."""
        if self.transfer is None:
            return None
        base = self.base(model.config.vocab)
        grown = growths(model, base, self.transfer.power)
        restart(model, base, grown)
        return grown

    def _preset(self, vocab: int, **dials: int) -> ModelConfig:
        context = max(self.length, 512)
        return ModelConfig.preset(self.preset, **{"vocab": vocab, "context": context, **self.dials, **dials})


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
    objective: TokenMean = OBJECTIVES[config.objective.kind](config.objective)
    tokenizer, change = objective.reads(Tokenizer.load(tokens))
    model = Model(config.architecture(tokenizer.vocab_size), seed=config.seed).to(pick(config.device))
    objective.fits(model)
    if model.config.context < config.length:
        raise UsageError(
            f"rows of length {config.length} are longer than the model's context of {model.config.context}"
        )
    growth = config.carry_over(model)
    layout = Layout(config.length, config.batch, config.seed, config.packing)
    source = open_stream(config.mixture, tokens, layout)
    valid = shards_of(tokens, "valid")
    if measure is None and valid is not None:
        sizes = {"length": config.length, "batch": config.batch, "max_tokens": config.validation_tokens}
        measure = validation(valid, **sizes, change=change)
    plan = DataPlan(out, source, RunData.of(config, config.mixture, config.packing, tokens, out))
    runner = Runner(config, out, log, title="pretrain", names="pretrain")
    feed = source if change is None else Changed(source, change, seed=config.seed)
    record = runner.run(model, feed, objective, measure=measure, hooks=[plan, *hooks], growth=growth)
    Bundle(model, tokenizer, ids=TokenIds(start=objective.start(tokenizer))).save(out)
    passes = {"passes": source.passes} if len(source.parts) > 1 else {}
    return {**record, "parameters": sum(p.numel() for p in model.parameters()), "epochs": source.epochs, **passes}


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
