"""A model out of a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from hanok.core.errors import suggest
from hanok.model.config import ModelConfig
from hanok.model.gguf import rope
from hanok.model.gguf.config import heads, read_config
from hanok.model.gguf.reader import GGUF
from hanok.model.gguf.table import our_name, reorder, their_name
from hanok.model.gguf.vocabulary import Vocabulary, read_ids, read_vocabulary
from hanok.model.model import Model
from hanok.model.size import stored
from hanok.model.weights import TokenIds


class Loaded(NamedTuple):
    """What a file holds; `note` says why there is no vocabulary where there is none."""

    model: Model
    ids: TokenIds
    vocabulary: Vocabulary | None
    note: str | None


def is_gguf(path: str | Path) -> bool:
    """Return whether a path looks like a GGUF file."""
    return Path(path).suffix == ".gguf" and Path(path).is_file()


def load_gguf(path: str | Path, dtype: torch.dtype = torch.float32) -> Loaded:
    """Read a model; quantised weights become numbers of `dtype`.

    Tensors are read one at a time, so that peak memory is the weights and the largest tensor. All names and shapes
    are checked before the first is read.
    """
    with GGUF.open(path) as file:
        architecture, config = read_config(file)
        model = Model(config, device="meta")
        placed = _place(file, model)
        vocabulary, note = read_vocabulary(file, config.vocab)
        ids = read_ids(file, config.vocab)
        count = heads(config)
        # All memory first: what is made of one tensor then leaves no holes between those that stay.
        model.to(dtype).to_empty(device="cpu")
        model.tie()
        ours = stored(model)
        with torch.no_grad():
            for name, target in placed.items():
                tensor = file.read(name, dtype)
                if architecture.pairs == "interleaved":
                    tensor = reorder(tensor, name=target, heads=count, to="halves")
                ours[target].copy_(tensor)
    return Loaded(model, ids, vocabulary, note)


def read_gguf_config(path: str | Path) -> ModelConfig:
    """Return a file's config without reading its weights."""
    with GGUF.open(path) as file:
        return read_config(file)[1]


def _place(file: GGUF, model: Model) -> dict[str, str]:
    """Return our name of every tensor in the file; a missing, stray or misshapen one is refused."""
    wanted = stored(model)
    if model.config.embeddings == "tied":
        wanted.pop("head.weight", None)
    placed = {}
    for name, tensor in file.tensors.items():
        if name == rope.FACTORS:
            continue
        ours = our_name(name)
        if ours is None or ours not in wanted:
            near = suggest(name[:100], [their_name(known) or known for known in wanted] if len(wanted) < 1000 else ())
            file.refuse(f"the tensor {name[:100]!r} has no place in this model{near}")
        if tensor.shape != tuple(wanted[ours].shape):
            file.refuse(f"{name} has the shape {list(tensor.shape)}, the model asks for {list(wanted[ours].shape)}")
        placed[name] = ours
    missing = wanted.keys() - placed.values()
    if missing:
        first = min(missing)
        file.refuse(f"{len(missing)} tensors are missing, such as {their_name(first) or first!r}")
    return placed
