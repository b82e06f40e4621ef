"""A model into a GGUF file that llama.cpp reads."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.model.gguf.config import alike, heads, read_config, write_config
from hanok.model.gguf.cursor import Value
from hanok.model.gguf.quant import F16, F32, Q8_0, Format
from hanok.model.gguf.reader import GGUF, Stored
from hanok.model.gguf.table import reorder, their_name
from hanok.model.gguf.vocabulary import Vocabulary, write_ids, write_vocabulary
from hanok.model.gguf.writer import encode, header, write_whole
from hanok.model.model import Model
from hanok.model.size import stored
from hanok.model.weights import TokenIds
from hanok.nn.linear import Linear

FORMATS = {"f32": (F32, 0), "f16": (F16, 1), "q8_0": (Q8_0, 7)}  # and the number of general.file_type


def save_gguf(
    model: Model,
    path: str | Path,
    dtype: Literal["f32", "f16", "q8_0"] = "f32",
    *,
    vocabulary: Vocabulary | None = None,
    ids: TokenIds | None = None,
    name: str = "hanok",
) -> None:
    """Write a model as llama or qwen2; a config that neither can say is refused, saying what stands in the way.

    Matrices get `dtype`; vectors stay F32, and so do, as F16, matrices whose rows Q8_0 cannot cut into blocks.
    """
    path = Path(path)
    if dtype not in FORMATS:
        raise UsageError(f"GGUF files are written as {', '.join(FORMATS)}, not {dtype!r}")
    format, file_type = FORMATS[dtype]
    architecture, metadata, extra = write_config(model.config)
    weights = _weights(model)
    plan = {their: _format(shape, format) for their, (_, shape) in weights.items()}
    tensors = {their: (shape, plan[their]) for their, (_, shape) in weights.items()}
    tensors |= {their: (array.shape, F32) for their, array in extra.items()}
    metadata |= {"general.type": "model", "general.name": name, "general.file_type": np.uint32(file_type)}
    if dtype == "q8_0":
        metadata["general.quantization_version"] = np.uint32(2)
    metadata |= write_vocabulary(vocabulary, model.config.vocab) | write_ids(ids or TokenIds(), model.config.vocab)
    listed = {their: Stored(their, shape, found, 0) for their, (shape, found) in tensors.items()}
    _prove(model, _Draft(path, metadata, listed, {their: torch.from_numpy(array) for their, array in extra.items()}))
    count = heads(model.config)

    def pieces() -> Iterable[bytes]:
        yield header(metadata, tensors)
        for their, (ours, _) in weights.items():
            tensor = _numbers(model, ours)
            if architecture.pairs == "interleaved":
                tensor = reorder(tensor, name=ours, heads=count, to="interleaved")
            try:
                yield from encode(tensor.numpy(), plan[their])
            except UsageError as error:
                raise UsageError(f"{ours}: {error}") from None
        for array in extra.values():
            yield from encode(array, F32)

    write_whole(path, pieces)


def _weights(model: Model) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return, by their name, our name and shape of every tensor that is written."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for ours, tensor in stored(model).items():
        if ours.endswith(".weight_scale") or (ours == "head.weight" and model.config.embeddings == "tied"):
            continue
        their = their_name(ours)
        if their is None:
            raise UsageError(f"GGUF has no name for {ours}; save the model as a directory instead")
        found[their] = (ours, tuple(tensor.shape))
    return found


def _numbers(model: Model, ours: str) -> Tensor:
    """Return a tensor as float32, whatever it is stored as."""
    module, _, last = ours.rpartition(".")
    owner = model.get_submodule(module)
    tensor = owner.unpacked() if isinstance(owner, Linear) and last == "weight" else getattr(owner, last)
    numbers: Tensor = tensor.detach().to("cpu", torch.float32).contiguous()
    return numbers


def _format(shape: tuple[int, ...], wanted: Format) -> Format:
    if len(shape) < 2:
        return F32
    return wanted if shape[-1] % wanted.block == 0 else F16


class _Draft(GGUF):
    """A file that is yet to be written, for `read_config` to read."""

    def __init__(
        self, path: Path, metadata: Mapping[str, Value], tensors: Mapping[str, Stored], extra: Mapping[str, Tensor]
    ) -> None:
        super().__init__(io.BytesIO(), path, metadata, tensors)
        self.extra = extra

    def read(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.extra[name].to(dtype)


def _prove(model: Model, draft: _Draft) -> None:
    """Refuse a config that would not come back as it is: what the file says must be all there is to say."""
    wanted, again = alike(model.config).to_dict(), read_config(draft)[1].to_dict()
    lost = sorted(_differences(wanted, again))
    if lost:
        listed = "; ".join(f"{path} = {value!r}" for path, value in lost[:3])
        raise UsageError(f"GGUF's llama and qwen2 cannot say {listed}; save the model as a directory instead")


def _differences(one: Any, other: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from _differences(one.get(key), other.get(key), f"{path}.{key}" if path else key)
    elif one != other:
        yield path, one
