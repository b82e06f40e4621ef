"""Scores that a model gave earlier: its loss, entropy or margin on each document."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

import numpy as np

from hanok.core.artifact import atomic_write
from hanok.core.config import PartConfig
from hanok.core.errors import UsageError
from hanok.text.data.score import SCORES
from hanok.text.data.score.base import Scores
from hanok.text.data.shard import Shards


@SCORES.register("stored")
class Stored:
    """The scores that `hanok data score` has written: documents of low loss (or uncertainty) first."""

    class Config(PartConfig):
        """The folder that scores were written to; it may hold those of several data sets."""

        kind: Literal["stored"] = "stored"
        path: str

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, shards: Shards) -> Scores:
        """Return the score of every document in order."""
        return read_scores(Path(self.config.path), shards)


def write_scores(path: Path, scores: Scores, shards: Shards, *, by: str) -> Path:
    """Write one number per document below `path`, in files named by the data they belong to."""
    raw = np.asarray(scores, dtype="<f8").tobytes()
    index, numbers = _files(path, shards)
    atomic_write(numbers, raw)
    record = {
        "by": by,
        "documents": len(scores),
        "shards": shards.fingerprint,
        "sha256": hashlib.sha256(raw).hexdigest(),
    }
    atomic_write(index, json.dumps(record, indent=2) + "\n")
    return numbers


def read_scores(path: Path, shards: Shards) -> Scores:
    """Read the scores of these very shards."""
    index, numbers = _files(path, shards)
    try:
        record = json.loads(index.read_text(encoding="utf-8"))
        raw = numbers.read_bytes()
        owner, expected = record["shards"], record["sha256"]
    except FileNotFoundError:
        raise UsageError(
            f"{path} holds no scores of {shards.path} ({index.name}): hanok data score makes them"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{index} is damaged: {error!r}") from None
    if owner != shards.fingerprint or hashlib.sha256(raw).hexdigest() != expected:
        raise UsageError(f"{numbers} has changed since it was written (sha256 differs); score the data again")
    return np.frombuffer(raw, dtype="<f8").astype(np.float64)


def _files(path: Path, shards: Shards) -> tuple[Path, Path]:
    name = shards.fingerprint[:16]
    return path / f"{name}.json", path / f"{name}.bin"
