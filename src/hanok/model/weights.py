"""A model as files, in the Hugging Face layout: config.json, generation_config.json, model.safetensors or shards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hanok.core.artifact import atomic_write
from hanok.core.errors import UsageError, suggest
from hanok.model.config import ModelConfig
from hanok.model.families import FAMILIES
from hanok.model.families.table import Family
from hanok.model.model import Model
from hanok.model.place import Places
from hanok.model.size import fixed, stored
from hanok.nn.linear import Linear, swap

WEIGHTS, INDEX, CONFIG, GENERATION = (
    "model.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
SHARD_BYTES = 5 * 10**9
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
    family, config = _describe(model, _shapes(model))
    _write_shards(Places(family, model.config, _shapes(model)).give_out(tensors), path, shard_bytes)
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

    Tensors are read one at a time from the mapped files, so that peak memory is the weights and the largest tensor.
    """
    path = Path(path)
    theirs = read_config(path)
    family, config = read_architecture(theirs, path)
    model = Model(config, device="meta")
    _unpack_formats(model, theirs)
    places = Places(family, config, _shapes(model), fixed(model))
    model.load_state_dict(places.take_in(read_tensors(path), dtype, path), strict=False, assign=True)
    model.tie()
    model.origin = dict(theirs)
    return model


def read_config(path: Path) -> dict[str, Any]:
    """Return config.json as data; a directory that asks for its own code is refused."""
    try:
        data = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path} holds no {CONFIG}: it is not a model directory") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path / CONFIG} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path / CONFIG} must hold a JSON object")
    if "auto_map" in data:
        raise UsageError(f"{path / CONFIG} asks to run the model's own code (auto_map); hanok never does")
    return data


def read_architecture(theirs: Mapping[str, Any], path: Path) -> tuple[Family | None, ModelConfig]:
    """Return the family (None for our own format) and our config."""
    kind = theirs.get("model_type")
    if kind == "hanok":
        return None, ModelConfig.parse(theirs.get("hanok", {}), where=str(path / CONFIG))
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = sorted(["hanok", *FAMILIES])
        raise UsageError(
            f"{path / CONFIG}: unknown model_type {kind!r}{suggest(kind, known)} (known: {', '.join(known)})"
        )
    family = FAMILIES[kind]
    return family, family.read_config(theirs)


def read_token_ids(path: Path) -> TokenIds:
    """Return the special tokens of a model directory; generation_config.json wins over config.json."""
    data: dict[str, Any] = {}
    for name in (CONFIG, GENERATION):
        if (path / name).is_file():
            found = json.loads((path / name).read_text(encoding="utf-8"))
            data |= {key: value for key, value in found.items() if value is not None}
    eos = data.get("eos_token_id")
    ends = tuple(eos) if isinstance(eos, list) else (() if eos is None else (eos,))
    return TokenIds(data.get("bos_token_id"), ends, data.get("pad_token_id"), data.get("decoder_start_token_id"))


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor of a model directory by the name it has there."""
    for file in _shards(path):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  (not a mapping: it has no iterator)
                    yield name, tensors.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise UsageError(f"{file} cannot be read as safetensors: {error}") from None


def _shards(path: Path) -> list[Path]:
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    if (path / INDEX).is_file():
        try:
            names = sorted(set(json.loads((path / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise UsageError(f"{path / INDEX} is damaged: {error}") from None
        for name in names:
            if Path(name).name != name or not (path / name).is_file():
                raise UsageError(f"{path / INDEX} names the shard {name!r}, which is not a file of this directory")
        return [path / name for name in names]
    if any(path.glob("*.bin")) or any(path.glob("*.pt")):
        raise UsageError(f"{path} holds pickled weights, which can run code; convert them to safetensors first")
    raise UsageError(f"{path} holds neither {WEIGHTS} nor {INDEX}")


def _describe(model: Model, shapes: Mapping[str, torch.Size]) -> tuple[Family | None, dict[str, Any]]:
    """Return the family that can say what this model is, the one it came from first, and its config.json."""
    origin = model.origin.get("model_type")
    for name in sorted(FAMILIES, key=lambda name: name != origin):
        theirs = FAMILIES[name].write_config(model.config)
        if theirs is not None and Places(FAMILIES[name], model.config, shapes).complete:
            kept = {k: v for k, v in model.origin.items() if k not in OWN} if name == origin else {}
            same = bool(kept) and _reads_as(FAMILIES[name], kept, model.config)
            return FAMILIES[name], kept | {"architectures": theirs["architectures"]} if same else kept | theirs
    return None, {"model_type": "hanok", "architectures": ["HanokForCausalLM"], "hanok": model.config.to_dict()}


def _reads_as(family: Family, theirs: Mapping[str, Any], config: ModelConfig) -> bool:
    """Say whether a config.json still says what a config of ours says: it is then kept word by word."""
    try:
        return family.read_config(theirs) == config
    except UsageError:
        return False


def _shapes(model: Model) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in stored(model).items()}


def _linears(model: nn.Module) -> dict[str, Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Linear)}


def _unpack_formats(model: Model, theirs: Mapping[str, Any]) -> None:
    """Swap in the Linear classes that a quantised directory names."""
    packed = theirs.get("quantization_config")
    if packed is None:
        return
    if packed.get("quant_method") != "hanok":
        raise UsageError(f"config.json: quant_method {packed.get('quant_method')!r} is not supported")
    linears = _linears(model)
    for name, kind in packed.get("modules", {}).items():
        if name not in linears or kind not in linears[name].formats:
            raise UsageError(f"config.json: quantization of {name!r} as {kind!r} fits no module of this model")
        with torch.device("meta"):
            swap(model, name, linears[name].blank(kind))


def _write_shards(tensors: dict[str, Tensor], path: Path, shard_bytes: int) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    room = shard_bytes
    for name, tensor in tensors.items():
        if shards[-1] and tensor.nbytes > room:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = tensor
        room -= tensor.nbytes
    before = {file.name for file in [*path.glob("model*.safetensors"), *path.glob(INDEX)]}
    if len(shards) == 1:
        _write_tensors(shards[0], path / WEIGHTS)
        _remove(path, before - {WEIGHTS})
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_tensors(shard, path / file)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    _write_json(path / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    _remove(path, before - {INDEX, *weight_map.values()})


def _remove(path: Path, names: set[str]) -> None:
    for name in names:
        (path / name).unlink()


def _write_tensors(tensors: dict[str, Tensor], file: Path) -> None:
    work = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, work, metadata={"format": "pt"})
        os.replace(work, file)
    finally:
        work.unlink(missing_ok=True)


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    atomic_write(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
