"""Who runs, in the order of history: a preset, its dials for language and for the probes, and how it learns best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hanok.core.errors import UsageError, suggest
from hanok.model.config import ModelConfig

Era = Literal["before attention", "encoder and decoder", "decoder only", "states and hybrids"]
PAST: Era = "before attention"
PAIR: Era = "encoder and decoder"
ALONE: Era = "decoder only"
STATES: Era = "states and hybrids"

# Dials that give about 0.8 million weights beside the embedding (of a mixture: that a token visits), and small
# models of the same kind for the probes.
LANGUAGE = {"dim": 128, "depth": 4}
PROBE = {"dim": 64, "depth": 2}


@dataclass(frozen=True)
class Contestant:
    """One kind of model; `reads` says whether it sees the past as its own prefix or through an encoder.

    Learning rates come from small sweeps for some and by analogy for the others; all use AdamW with the same schedule.
    """

    name: str
    title: str
    year: int
    era: Era
    preset: str = ""
    language: dict[str, Any] = field(default_factory=dict)
    probe: dict[str, Any] = field(default_factory=dict)
    lr: float = 3e-3
    probe_lr: float = 3e-3
    reads: Literal["prefix", "source"] = "prefix"
    start: Literal["random", "word2vec"] = "random"

    def language_config(self, vocab: int, context: int) -> ModelConfig:
        """Return the model that reads text."""
        return self._config(vocab, context, LANGUAGE | self.language)

    def probe_config(self, vocab: int, context: int) -> ModelConfig:
        """Return the smaller model of the same kind that the probes train."""
        return self._config(vocab, context, PROBE | self.probe)

    def _config(self, vocab: int, context: int, dials: dict[str, Any]) -> ModelConfig:
        return ModelConfig.preset(self.preset, vocab=vocab, context=context, **dials)


NGRAM = "ngram"
CONTESTANTS: tuple[Contestant, ...] = (
    Contestant(NGRAM, "n-gram", 1995, PAST),
    Contestant(
        "mlp",
        "word2vec + MLP",
        2003,
        PAST,
        "nplm-tiny",
        {"depth": 1, "hidden": 640},
        {"depth": 1, "hidden": 128},
        start="word2vec",
    ),
    Contestant("rnn", "RNN", 2010, PAST, "rnn-lm", {"dim": 448, "depth": 2}, {"dim": 144}, lr=5e-3),
    Contestant("lstm", "LSTM", 2012, PAST, "lstm-lm", {"dim": 224, "depth": 2}, {"dim": 72}, lr=1e-2),
    Contestant("gru", "GRU", 2014, PAST, "gru-lm", {"dim": 256, "depth": 2}, {"dim": 84}, lr=1e-2),
    Contestant(
        "seq2seq",
        "seq2seq, fixed vector",
        2014,
        PAIR,
        "seq2seq",
        {"cross": "fixed", "dim": 160, "depth": 2},
        {"cross": "fixed", "dim": 52},
        reads="source",
    ),
    Contestant(
        "attention",
        "seq2seq + attention",
        2015,
        PAIR,
        "seq2seq",
        {"cross": "additive", "dim": 152, "depth": 2},
        {"cross": "additive", "dim": 48},
        reads="source",
    ),
    Contestant(
        "transformer",
        "Transformer",
        2017,
        PAIR,
        "transformer",
        {"heads": 4, "depth": 2},
        {"dim": 48, "heads": 4},
        reads="source",
    ),
    Contestant("gpt", "GPT", 2019, ALONE, "gpt-tiny", lr=5e-3),
    Contestant("llama", "LLaMA style", 2023, ALONE, "llama-tiny", lr=5e-3),
    Contestant("moe", "MoE", 2024, ALONE, "moe-tiny", lr=5e-3),
    Contestant("mla", "MLA", 2024, ALONE, "mla-tiny", lr=5e-3),
    Contestant("mamba", "Mamba", 2023, STATES, "mamba-tiny", {"depth": 7}, {"depth": 3}, lr=5e-3),
    Contestant("hybrid", "hybrid", 2024, STATES, "jamba-tiny", {"hidden": 256}, {"every": 2}, lr=5e-3),
)
NAMES = tuple(contestant.name for contestant in CONTESTANTS)


def choose(names: Sequence[str]) -> list[Contestant]:
    """Return the named contestants in the order of history; all of them where none is named."""
    for name in names:
        if name not in NAMES:
            raise UsageError(f"unknown contestant {name!r}{suggest(name, NAMES)} (there are: {', '.join(NAMES)})")
    return [contestant for contestant in CONTESTANTS if not names or contestant.name in names]
