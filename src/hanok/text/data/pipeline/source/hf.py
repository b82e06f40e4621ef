"""Datasets of the Hugging Face library, streamed shard by shard: `hf:NAME[@REVISION][:CONFIG][:SPLIT]`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanok.core.artifact import file_sha256
from hanok.core.config import digest
from hanok.core.errors import UsageError, require
from hanok.text.data.pipeline.source import HUB, SOURCES, Row, Segment

SAVED = "state.json"  # what `save_to_disk` leaves
SHARDS = 64  # at most, of a dataset that was saved to disk


@dataclass(frozen=True)
class Name:
    """The parts of `hf:NAME[@REVISION][:CONFIG][:SPLIT]`; NAME may be a folder."""

    name: str
    revision: str | None = None
    config: str | None = None
    split: str = "train"

    @classmethod
    def read(cls, path: str) -> Name:
        """Take a path apart; one word after the name is the split, two are configuration and split."""
        whole, *rest = path.removeprefix(HUB).split(":")
        name, _, revision = whole.partition("@")
        if not name or len(rest) > 2:
            raise UsageError(f"{path}: write {HUB}NAME[@REVISION][:CONFIG][:SPLIT]")
        return cls(name, revision or None, rest[0] if len(rest) == 2 else None, rest[-1] if rest else "train")


@SOURCES.register("hf")
class HuggingFace:
    """Hugging Face `datasets` (extra `datasets`): a name on the hub, or a folder, streamed; no code of theirs runs."""

    def cut(self, path: str, name: str, *, size: int) -> Iterator[Segment]:
        """Yield the dataset's own shards."""
        count = _load(path).num_shards
        for shard in range(count):
            yield Segment("hf", path, f"{name}:{shard}", size, shard, count)

    def read(self, segment: Segment) -> Iterator[Row]:
        """Yield the rows of one shard."""
        shard = _load(segment.path).shard(num_shards=segment.stop, index=segment.start, contiguous=True)
        for number, fields in enumerate(shard, 1):
            yield Row(number, {key: value for key, value in fields.items() if value is not None})


def identity(path: str) -> str:
    """Return what changes when the dataset does: its revision on the hub, or the hash of a folder's files."""
    name = Name.read(path)
    folder = Path(name.name)
    if folder.is_dir():
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return digest([[str(file.relative_to(folder)), file_sha256(file)] for file in files])
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return str(HfApi().dataset_info(name.name, revision=name.revision).sha)
    except (OSError, HfHubHTTPError) as error:
        raise UsageError(f"{path}: the dataset cannot be found on the hub: {error}") from None


def _load(path: str) -> Any:
    datasets = require("datasets", extra="datasets")
    name = Name.read(path)
    try:
        if (Path(name.name) / SAVED).is_file():
            saved = datasets.load_from_disk(name.name)
            return saved.to_iterable_dataset(num_shards=min(SHARDS, max(len(saved), 1)))
        return datasets.load_dataset(name.name, name.config, split=name.split, revision=name.revision, streaming=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from None
