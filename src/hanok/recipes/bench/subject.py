"""What is measured: a model from a directory, the hub, or a preset with random weights; and the prompts it reads."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from hanok.core.config import set_override
from hanok.core.device import pick
from hanok.core.errors import UsageError, suggest
from hanok.engine.config import EngineConfig
from hanok.engine.local import LLM
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.model.packing import pack_weights
from hanok.model.weights import DTYPES
from hanok.ops.native import prepare

PRESET = "preset="


def split(words: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the engine's settings among `key=value` words, and the other words: a preset's dials."""
    settings: dict[str, Any] = {}
    dials = []
    for word in words:
        if word.partition("=")[0] in EngineConfig.model_fields:
            set_override(settings, word)
        else:
            dials.append(word)
    EngineConfig.parse(settings, where="engine settings")
    return settings, dials


def read_preset(name: str, dials: Iterable[str]) -> ModelConfig:
    """Return the configuration of a preset with its dials as `key=value`."""
    values: dict[str, Any] = {}
    for dial in dials:
        set_override(values, dial)
    return ModelConfig.preset(name, **values)


def open_model(
    name: str, dials: Iterable[str] = (), *, dtype: str | None = None, weights: str | None = None, device: str = "auto"
) -> LLM:
    """Return a model by directory, hub name, or as `preset=NAME` with random weights and no tokenizer.

    `weights` packs the matrices (fp32, bf16, int8, int4), as `load` does. The kernels that `run` and `serve` answer
    with are built first if need be: what is measured is what those will do.
    """
    prepare(wait=True)
    dials = list(dials)
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}{suggest(dtype, DTYPES)} (known: {', '.join(DTYPES)})")
    if name.startswith(PRESET):
        model = Model(read_preset(name.removeprefix(PRESET), dials)).to(DTYPES[dtype or "float32"])
        if weights is not None:
            pack_weights(model, weights)
        llm = LLM(model.to(pick(device)))
    elif dials:
        raise UsageError(f"{dials[0]!r} is neither a setting of the engine nor a dial: {name} is what it is")
    else:
        llm = LLM.load(name, dtype=dtype, device=device, weights=weights)
    return llm


def prompts(count: int, length: int, vocab: int, draw: random.Random) -> list[list[int]]:
    """Return rows of random tokens, no two alike in their first tokens, so that none profits from another's past."""
    low = min(3, vocab - 1)  # what stands first in a vocabulary are often special tokens
    return [[draw.randrange(low, vocab) for _ in range(length)] for _ in range(count)]


def check_lengths(context: int, input_len: int, output_len: int) -> None:
    """Refuse lengths that the model's context does not hold."""
    if input_len < 1 or output_len < 1:
        raise UsageError(f"a prompt and its answer need at least one token each, not {input_len} and {output_len}")
    if input_len + output_len > context:
        raise UsageError(f"{input_len} tokens in and {output_len} out exceed the model's context of {context}")
