"""A model as files, in the Hugging Face layout: config.json, generation_config.json, model.safetensors or shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hanok.core.artifact import atomic_write
from hanok.core.errors import UsageError, suggest
from hanok.core.json_file import clip, read_json
from hanok.model.checkpoint import Checkpoint, write_checkpoint
from hanok.model.config import ModelConfig
from hanok.model.families import FAMILIES
from hanok.model.families.table import Family
from hanok.model.limits import MOST_WORDS, build_empty, check_layers, check_sizes, layers
from hanok.model.model import Model
from hanok.model.place import Places
from hanok.model.size import fixed, stored
from hanok.nn.linear import Linear, swap

CONFIG, GENERATION = "config.json", "generation_config.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
SHARD_BYTES = 5 * 10**9
LONGEST = 2000  # characters of an error about a config
OWN = ("quantization_config", "dtype", "torch_dtype")  # keys that say how the numbers were stored: never kept


@dataclass(frozen=True)
class TokenIds:
    """The special tokens that a model's files name: where a sequence begins, which tokens end it, what fills it up.

    `start` is what a decoder with an encoder begins with.
    """

    bos: int | None = None
    eos: tuple[int, ...] = ()
    pad: int | None = None
    start: int | None = None


def is_model_dir(path: Path) -> bool:
    """Return whether a directory looks like a saved model."""
    return (path / CONFIG).is_file()


def save_model(model: Model, path: Path, ids: TokenIds | None = None, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write a model; each file appears whole, and config.json last.

    A config that a published family can express is written as that family, so that other programs load it; any other
    is written as model_type `hanok`.
    """
    path.mkdir(parents=True, exist_ok=True)
    ids = ids or TokenIds()
    tensors = stored(model)
    family, config = _describe(model, tensors)
    write_checkpoint(path, *Places(family, model.config, tensors).give_out(tensors), shard_bytes)
    eos = list(ids.eos) if len(ids.eos) > 1 else (ids.eos[0] if ids.eos else None)
    special = {"bos_token_id": ids.bos, "eos_token_id": eos, "pad_token_id": ids.pad}
    special |= {} if ids.start is None else {"decoder_start_token_id": ids.start}
    dtype = str(model.dtype).removeprefix("torch.")
    formats = {name: module.kind for name, module in _linears(model).items() if module.kind != "dense"}
    packed = {"quantization_config": {"quant_method": "hanok", "modules": formats}} if formats else {}
    _write_json(path / GENERATION, {name: value for name, value in special.items() if value is not None})
    _write_json(path / CONFIG, {**config, **special, **packed, "dtype": dtype, "torch_dtype": dtype})


def load_model(path: str | Path, dtype: torch.dtype | None = None) -> Model:
    """Read a model directory; every tensor must be there, with the right shape, and none may be left over.

    All that config.json and the headers say is checked before any memory is taken; tensors are then read one at a time,
    so that peak memory is the weights and the largest tensor.
    """
    path = Path(path)
    theirs = read_config(path)
    family, config = read_architecture(theirs, path)
    files = Checkpoint(path)
    if layers(config) > len(files.outlines):  # nothing so deep is built
        raise UsageError(
            f"{path / CONFIG} asks for {layers(config)} layers, the files hold {len(files.outlines)} tensors"
        )
    model = build_empty(config, str(path / CONFIG))
    if config.mtp is not None and family is not None and not _predicts_ahead(model, family, files):
        model = build_empty(config.model_copy(update={"mtp": None}), str(path / CONFIG))
    _unpack_formats(model, theirs, path)
    places = Places(family, model.config, stored(model), fixed(model))
    places.take_in(files.empty(), dtype, path)
    model.load_state_dict(places.take_in(files.tensors(), dtype, path), strict=False, assign=True)
    model.tie()
    model.origin = dict(theirs)
    return model


def _predicts_ahead(model: Model, family: Family, files: Checkpoint) -> bool:
    """Say whether files hold any tensor of the modules that predict further ahead, which their config promises."""
    pieces = Places(family, model.config, stored(model)).pieces
    wanted = {theirs for theirs, piece in pieces.items() if piece.ours[0].startswith("mtp.")}
    return any(name in wanted or family.base + name in wanted for name in files.outlines)


def read_config(path: Path) -> dict[str, Any]:
    """Return config.json as data; a directory that asks for its own code is refused."""
    if not (path / CONFIG).is_file():
        raise UsageError(f"{path} holds no {CONFIG}: it is not a model directory")
    data = read_json(path / CONFIG)
    if "auto_map" in data:
        raise UsageError(f"{path / CONFIG} asks to run the model's own code (auto_map); hanok never does")
    return data


def read_architecture(theirs: Mapping[str, Any], path: Path) -> tuple[Family | None, ModelConfig]:
    """Return the family (None for our own format) and our config, whose numbers are within the limits."""
    kind, where = theirs.get("model_type"), str(path / CONFIG)
    family = None if kind == "hanok" else _family(kind, where)
    check_layers(theirs, where)
    try:
        if family is None:
            ours = theirs.get("hanok")
            if not isinstance(ours, dict):
                raise UsageError("config.json: 'hanok' must hold the model's config")
            config = ModelConfig.parse(ours, where="config.json")
        else:
            config = family.read_config(theirs)
    except UsageError as error:
        raise UsageError(f"{path}: {str(error)[:LONGEST]}") from None
    check_sizes(config, theirs, where)
    return family, config


def _family(kind: Any, where: str) -> Family:
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = sorted(["hanok", *FAMILIES])
        near = suggest(str(kind)[:LONGEST], known)
        raise UsageError(f"{where}: unknown model_type {clip(kind)}{near} (known: {', '.join(known)})")
    return FAMILIES[kind]


def read_token_ids(path: Path) -> TokenIds:
    """Return the special tokens of a model directory; generation_config.json wins over config.json."""
    data: dict[str, Any] = {}
    for name in (CONFIG, GENERATION):
        if (path / name).is_file():
            data |= {key: value for key, value in read_json(path / name).items() if value is not None}
    ends = data.get("eos_token_id")
    many = ends if isinstance(ends, list) else [ends]
    eos = [_id(end, "eos_token_id", path) for end in many]
    keys = ("bos_token_id", "pad_token_id", "decoder_start_token_id")
    bos, pad, start = (_id(data.get(key), key, path) for key in keys)
    return TokenIds(bos, tuple(end for end in eos if end is not None), pad, start)


def _id(value: Any, key: str, path: Path) -> int | None:
    """Return a token's number; the first files of LLaMA wrote -1 for none."""
    if value is None or (type(value) is int and -1 <= value < MOST_WORDS):
        return None if value == -1 else value
    raise UsageError(f"{path}: {key} in {CONFIG} or {GENERATION} must be a token's number, not {clip(value)}")


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor of a model directory by the name it has there."""
    return Checkpoint(path).tensors()


def _describe(model: Model, tensors: Mapping[str, Tensor]) -> tuple[Family | None, dict[str, Any]]:
    """Return the family that can say what this model is, the one it came from first, and its config.json."""
    origin = model.origin.get("model_type")
    for name in sorted(FAMILIES, key=lambda name: (name != origin, FAMILIES[name].extends != "")):
        theirs = FAMILIES[name].write_config(model.config)
        if theirs is not None and Places(FAMILIES[name], model.config, tensors).complete:
            kept = {k: v for k, v in model.origin.items() if k not in OWN} if name == origin else {}
            same = bool(kept) and _reads_as(FAMILIES[name], kept, model.config)
            # What still says the same stays as it was written; keys that older files lack are added.
            return FAMILIES[name], _merged(theirs, kept) if same else kept | theirs
    return None, {"model_type": "hanok", "architectures": ["HanokForCausalLM"], "hanok": model.config.to_dict()}


def _merged(theirs: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's own keys and words, with what newer files say beside them."""
    both = {**theirs, **kept, "architectures": theirs["architectures"]}
    inner = {key for key, value in kept.items() if isinstance(value, dict) and isinstance(theirs.get(key), dict)}
    return both | {key: {**theirs[key], **kept[key]} for key in inner}


def _reads_as(family: Family, theirs: Mapping[str, Any], config: ModelConfig) -> bool:
    """Say whether a config.json still says what a config of ours says: it is then kept word by word."""
    try:
        return family.read_config(theirs) == config
    except UsageError:
        return False


def _linears(model: nn.Module) -> dict[str, Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Linear)}


def _unpack_formats(model: Model, theirs: Mapping[str, Any], path: Path) -> None:
    """Swap in the Linear classes that a quantised directory names."""
    packed = theirs.get("quantization_config")
    if packed is None:
        return
    method = packed.get("quant_method") if isinstance(packed, dict) else packed
    if method != "hanok":
        raise UsageError(f"{path}: config.json: quant_method {clip(method)} is not supported")
    modules = packed.get("modules", {})
    if not isinstance(modules, dict):
        raise UsageError(f"{path}: config.json: the modules of quantization_config must be named one by one")
    linears = _linears(model)
    for name, kind in modules.items():
        if name not in linears or not isinstance(kind, str) or kind not in linears[name].formats:
            raise UsageError(f"{path}: config.json: quantization of {clip(name)} as {clip(kind)} fits no module")
        with torch.device("meta"):
            swap(model, name, linears[name].blank(kind))


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    atomic_write(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
