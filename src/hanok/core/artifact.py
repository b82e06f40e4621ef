"""What a stage leaves behind: a directory whose `artifact.json`, written last, vouches for every file in it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanok.core.durable import beside, make_dirs, publish, remove_tree, replace_file, sync_tree
from hanok.core.errors import UsageError

MANIFEST = "artifact.json"


class ArtifactError(UsageError):
    """An artifact is damaged, unfinished, or of the wrong kind."""


@dataclass(frozen=True)
class Artifact:
    """A finished directory: what it is, what made it, what it measured, and the sha256 of each file."""

    path: Path
    kind: str
    name: str
    config: dict[str, Any]
    inputs: dict[str, str]
    metrics: dict[str, Any]
    files: dict[str, str]
    created: str

    @classmethod
    def load(cls, path: str | Path, *, verify: bool = True) -> Artifact:
        """Read a manifest and, by default, compare every file with its sha256."""
        path = Path(path)
        try:
            data = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            artifact = cls(path=path, **{key: data[key] for key in cls.__dataclass_fields__ if key != "path"})
        except FileNotFoundError:
            raise ArtifactError(f"{path} holds no {MANIFEST}: it is no artifact, or it was never finished") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path / MANIFEST} is damaged: {error}") from None
        if verify:
            artifact.verify()
        return artifact

    def verify(self) -> None:
        """Refuse a file that is missing or has changed by as little as one bit, naming it."""
        for name, expected in self.files.items():
            file = self.path / name
            if not file.is_file():
                raise ArtifactError(f"{file} is missing: {self.path.name} is damaged; delete the folder and rerun")
            if file_sha256(file) != expected:
                raise ArtifactError(
                    f"{file} has changed since it was written (sha256 differs): delete the folder and rerun"
                )

    @property
    def digest(self) -> str:
        """Return the hash that names this artifact as an input of another: kind, config and file contents."""
        text = json.dumps([self.kind, self.config, self.files], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(
    path: Path,
    *,
    kind: str,
    name: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    metrics: Mapping[str, Any],
    without: str | None = None,
) -> None:
    """Flush every file below `path` to disk and write `artifact.json` last; `path` is then complete.

    The folder `without` is no part of it, and may be removed afterwards.
    """
    from datetime import UTC, datetime

    files = {}
    for file in sorted(path.rglob("*")):
        place = file.relative_to(path)
        if file.is_file() and not file.is_symlink() and file.name != MANIFEST and place.parts[0] != without:
            files[place.as_posix()] = file_sha256(file)
    sync_tree(path)
    record = {
        "kind": kind,
        "name": name,
        "config": dict(config),
        "inputs": dict(inputs),
        "metrics": dict(metrics),
        "files": files,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    atomic_write(path / MANIFEST, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory that becomes `path` whole, or not at all; an existing `path` is replaced."""
    make_dirs(path.parent)
    work = beside(path)
    os.mkdir(work, 0o700)
    try:
        yield work
        sync_tree(work)
        publish(work, path)
    finally:
        remove_tree(work)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file that is either the old one or the whole new one, whatever happens in between."""
    replace_file(path, content.encode() if isinstance(content, str) else content)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
