"""The weights of a model directory: one safetensors file, or shards that an index names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from hanok.core.artifact import atomic_write
from hanok.core.errors import UsageError
from hanok.core.json_file import MIB, clip, read_json
from hanok.model.tensor_file import Outline, read_header, read_tensors, write_file

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
LARGEST_INDEX = 64 * MIB  # half a million tensors


class Checkpoint:
    """What the files of a directory hold, by the names that tensors have there; the numbers are read when asked for."""

    def __init__(self, path: Path) -> None:
        self.files = {file: read_header(file) for file in _files(path)}
        self.outlines: dict[str, Outline] = {}
        for file, outlines in self.files.items():
            for name in outlines:
                if name in self.outlines:
                    raise UsageError(f"{file}: the tensor {clip(name)} is in another shard too")
            self.outlines |= outlines

    def empty(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor without its numbers."""
        return ((name, outline.empty()) for name, outline in self.outlines.items())

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor, one at a time, in new memory."""
        for file, outlines in self.files.items():
            yield from read_tensors(file, outlines)


def write_checkpoint(
    path: Path, outlines: Mapping[str, Outline], make: Callable[[str], Tensor], shard_bytes: int
) -> None:
    """Write tensors, which `make` gives by name, into files of at most so many bytes or one tensor; drop stale ones."""
    shards: list[dict[str, Outline]] = [{}]
    room = shard_bytes
    for name, outline in outlines.items():
        if shards[-1] and outline.nbytes > room:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = outline
        room -= outline.nbytes
    stale = {file.name for file in [*path.glob("model*.safetensors"), *path.glob(INDEX)]}
    if len(shards) == 1:
        write_file(path / WEIGHTS, shards[0], make)
        stale -= {WEIGHTS}
    else:
        weight_map: dict[str, str] = {}
        for number, shard in enumerate(shards, 1):
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            write_file(path / file, shard, make)
            weight_map |= dict.fromkeys(shard, file)
        total = sum(outline.nbytes for outline in outlines.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        atomic_write(path / INDEX, json.dumps(index, indent=2, ensure_ascii=False) + "\n")
        stale -= {INDEX, *weight_map.values()}
    for name in stale:
        (path / name).unlink()


def _files(path: Path) -> list[Path]:
    """Return the files of weights; a link is followed wherever it leads, for so the hub's cache is made."""
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    if (path / INDEX).is_file():
        named = read_json(path / INDEX, limit=LARGEST_INDEX).get("weight_map")
        if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
            raise UsageError(f"{path / INDEX} is damaged: weight_map must name a file for each tensor")
        names = sorted(set(named.values()))
        for name in names:
            plain = name.endswith(".safetensors") and not any(sign in name for sign in "/\\\0")
            if not plain or not (path / name).is_file():
                raise UsageError(f"{path / INDEX} names the shard {clip(name)}, which is not a file of this directory")
        return [path / name for name in names]
    if any(any(path.glob(pattern)) for pattern in PICKLED):
        raise UsageError(
            f"{path} holds pickled weights, which can run code when they are read; convert them to safetensors first "
            f"(with transformers, where you trust the files: from_pretrained(...).save_pretrained(...))"
        )
    raise UsageError(f"{path} holds neither {WEIGHTS} nor {INDEX}; other formats (*.bin, *.pt) are not read or fetched")
