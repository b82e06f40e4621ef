"""Between GGUF metadata and our config, by the rows of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hanok.core.errors import UsageError, suggest
from hanok.model.config import ModelConfig
from hanok.model.families.table import get, put
from hanok.model.gguf import rope
from hanok.model.gguf.cursor import Value
from hanok.model.gguf.reader import GGUF
from hanok.model.gguf.table import ARCHITECTURES, EMBEDDING, FFN, FOREIGN, HEAD, KEYS, MIXER, NORM, Architecture

Json = dict[str, Any]


def read_config(file: GGUF) -> tuple[Architecture, ModelConfig]:
    """Return the architecture and our config; every size has been held against a tensor of the file.

    So a number that was made up cannot ask for more memory or time than the file itself stands for.
    """
    name = file.text("general.architecture")
    if name not in ARCHITECTURES:
        known = sorted(ARCHITECTURES)
        short = name if name is None else name[:40]  # whatever a file says, an error stays short and quick
        file.refuse(f"unknown architecture {short!r}{suggest(short, known)} (known: {', '.join(known)})")
    if file.whole("split.count", 1) > 1:
        file.refuse("it is one part of a model that was split; merge the parts first (llama-gguf-split --merge)")
    for key, idle in FOREIGN.items():
        value = file.metadata.get(f"{name}.{key}")
        if value is not None and not any(np.all(value == same) for same in idle):
            file.refuse(f"{name}.{key} asks for something that this model class has no part for")
    ours: Json = {
        "layers": {"block": {"mixer": {"kind": "gqa"}, "ffn": {"kind": "swiglu"}, "norm": {"kind": "rmsnorm"}}},
        "norm": {"kind": "rmsnorm"},
        "embeddings": "untied" if HEAD in file.tensors else "tied",
    }
    put(ours, MIXER + ".position.kind", "rope")
    defaults = {"rope.freq_base": 10000, **_heads(file, name)}
    for key, paths, kind in KEYS:
        at, default = f"{name}.{key}", defaults.get(key)
        number = file.whole(at, default) if kind == "whole" else file.real(at, default)
        for path in paths:
            put(ours, path, number)
    put(ours, MIXER + ".bias", _bias(file, "attn_q", "attn_output"))
    put(ours, FFN + ".bias", _bias(file, "ffn_gate", "ffn_down"))
    ours["vocab"] = _check_shapes(file, name, ours)
    theta, head_dim = get(ours, MIXER + ".position.theta"), get(ours, MIXER + ".head_dim")
    if theta <= 0 or get(ours, NORM + ".eps") < 0:
        file.refuse(f"{name}.rope.freq_base must be positive, and the norm's epsilon not negative")
    put(ours, MIXER + ".position.scaling", rope.read_scaling(file, name, theta, head_dim))
    return ARCHITECTURES[name], ModelConfig.parse(ours, where=str(file.path))


def write_config(
    config: ModelConfig,
) -> tuple[Architecture, dict[str, Value], dict[str, npt.NDArray[np.float32]]]:
    """Return the architecture for a config, the metadata, and tensors that belong to the config.

    Not everything need be said by them: whoever writes them reads them again with `read_config`, and compares.
    """
    data = alike(config).to_dict()
    try:
        bias, head_dim = get(data, MIXER + ".bias"), get(data, MIXER + ".head_dim")
        values = {key: (get(data, paths[0]), kind) for key, paths, kind in KEYS}
        position = get(data, MIXER + ".position")
    except KeyError as error:
        raise UsageError(f"GGUF's llama and qwen2 have {error}, and this model does not") from None
    architecture = next(found for found in ARCHITECTURES.values() if bias in found.biases)
    if (position.get("scaling") or {}).get("kind") == "llama3":
        architecture = ARCHITECTURES["llama"]
    name = architecture.name
    metadata: dict[str, Value] = {"general.architecture": name}
    for key, (value, kind) in values.items():
        metadata[f"{name}.{key}"] = np.uint32(value) if kind == "whole" else np.float32(value)
    metadata[f"{name}.attention.value_length"] = np.uint32(head_dim)
    metadata[f"{name}.rope.dimension_count"] = np.uint32(head_dim)
    metadata[f"{name}.vocab_size"] = np.uint32(data["vocab"])
    scaling, extra = rope.write_scaling(name, position, head_dim, architecture.scalings)
    return architecture, metadata | scaling, extra


def alike(config: ModelConfig) -> ModelConfig:
    """Return the config with its one layer template named as `read_config` names it."""
    first = config.block(0)
    if any(config.block(layer) != first for layer in range(config.depth)):
        raise UsageError("GGUF's llama and qwen2 repeat one kind of layer, and this model has several")
    return config.model_copy(update={"layers": {"block": first}, "pattern": ("block",)})


def heads(config: ModelConfig) -> tuple[int, int]:
    """Return the numbers of query heads and of key heads."""
    mixer = get(alike(config).to_dict(), MIXER)
    return mixer["heads"], mixer["kv_heads"]


def _heads(file: GGUF, name: str) -> dict[str, int]:
    """Return what the absent keys about heads mean."""
    dim, count = file.whole(f"{name}.embedding_length"), file.whole(f"{name}.attention.head_count")
    if count < 1 or dim < 1:
        file.refuse(f"{name}.embedding_length and {name}.attention.head_count must be positive, not {dim} and {count}")
    size = file.whole(f"{name}.attention.key_length", dim // count)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (found := file.whole(f"{name}.{key}", size)) != size:
            file.refuse(f"{name}.{key} is {found:,}, but the heads are {size:,} wide")
    return {"attention.head_count_kv": count, "attention.key_length": size}


def _bias(file: GGUF, first: str, last: str) -> str:
    """Return which biases the first layer has; the others must have the same, or a tensor is missing or stray."""
    if f"blk.0.{first}.bias" not in file.tensors:
        return "none"
    return "all" if f"blk.0.{last}.bias" in file.tensors else "qkv"


def _check_shapes(file: GGUF, name: str, ours: Json) -> int:
    """Hold the config against the tensors that show its sizes, and return the vocabulary's size."""
    dim, mixer = ours["dim"], get(ours, MIXER)
    if EMBEDDING not in file.tensors:
        file.refuse(f"it has no tensor {EMBEDDING!r}")
    vocab = file.tensors[EMBEDDING].shape[0]
    wanted = {
        EMBEDDING: (file.whole(f"{name}.vocab_size", vocab), dim),
        "blk.0.attn_q.weight": (mixer["heads"] * mixer["head_dim"], dim),
        "blk.0.attn_k.weight": (mixer["kv_heads"] * mixer["head_dim"], dim),
        "blk.0.ffn_gate.weight": (get(ours, FFN + ".hidden"), dim),
    }
    for tensor, shape in wanted.items():
        if tensor not in file.tensors:
            file.refuse(f"it has no tensor {tensor!r}")
        if file.tensors[tensor].shape != shape:
            file.refuse(
                f"{tensor} has the shape {list(file.tensors[tensor].shape)}, the metadata ask for {list(shape)}"
            )
    if not 0 < ours["depth"] <= len(file.tensors):
        file.refuse(f"{name}.block_count is {ours['depth']:,}, but there are {len(file.tensors):,} tensors")
    return vocab
