"""Where a stage's input lies: a file, or a directory that holds one under a known name; and losses over it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.text.batch import Batch
from hanok.text.data.changed import Change, changed
from hanok.text.data.shard import INDEX, Shards
from hanok.text.data.stream import evaluation_batches
from hanok.train.objective.clm import NextToken


def file_of(path: Path, *names: str) -> Path:
    """Return the file that a path means: itself, or the first of `names` in that directory."""
    if path.is_file():
        return path
    for name in names:
        if (path / name).is_file():
            return path / name
    if not path.exists():
        raise UsageError(f"{path} does not exist; it should be a file, or a directory with {' or '.join(names)}")
    raise UsageError(f"{path} holds no {' and no '.join(names)}")


def shards_of(path: Path, split: str) -> Path | None:
    """Return the shards of a split below `path`, which may also be the training shards themselves."""
    if (path / split / INDEX).is_file():
        return path / split
    if split == "train":
        if (path / INDEX).is_file():
            return path
        raise UsageError(f"{path} holds no token shards (train/{INDEX} or {INDEX}): prepare the data first")
    return None


def mean_loss(model: Model, batches: Sequence[Batch]) -> float:
    """Return the weighted mean of -log p(target) over batches of any objective over tokens, in nats per target."""
    clm = NextToken(NextToken.Config())
    total = weight = 0.0
    with torch.no_grad():
        for batch in batches:
            here = batch.to(model.device)
            count = float(clm.count(here))
            if count:
                total += float(clm(model, here)[0]) * count
            weight += count
    return total / weight


def validation(
    shards: Path, *, length: int, batch: int, max_tokens: int, change: Change | None = None
) -> Callable[[Model], dict[str, float]]:
    """Return what measures val/loss (nats per target) and val/bpb (bits per byte of text) on the first tokens.

    With a `change` it is always the same tokens that are hidden or cut out, and there are no bits per byte.
    """
    held = Shards(shards)
    batches = list(evaluation_batches(held, length=length, batch=batch, max_tokens=max_tokens))
    if change is not None:
        batches = [changed(part, change, seed=0, number=number) for number, part in enumerate(batches)]
    bytes_per_token = held.num_bytes / len(held) if change is None else 0.0

    def measure(model: Model) -> dict[str, float]:
        loss = mean_loss(model, batches)
        figures = {"val/loss": loss}
        if bytes_per_token:
            figures["val/bpb"] = loss / math.log(2) / bytes_per_token
        return figures

    return measure
