"""Which files a run reads, under names that are the same wherever the folder lies, and what identifies them."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from hanok.core.artifact import file_sha256
from hanok.core.config import digest
from hanok.core.errors import UsageError
from hanok.text.data.files import find_files
from hanok.text.data.pipeline.source import HUB, SUFFIXES


def find_sources(paths: Sequence[str]) -> dict[str, str]:
    """Return {path: name} of all that is read, in order: a name is what the ids of its documents begin with.

    A file below a folder is named from that folder on, a file of a glob from the first wildcard's folder on. Two files
    that would share a name are told apart by `~2`.
    """
    if not paths:
        raise UsageError("no data: give at least one file, folder, glob or hf:NAME")
    found: dict[str, str] = {}
    taken: set[str] = set()
    for path in paths:
        if path.startswith(HUB):
            names = {path: path}
        else:
            names = {str(file): _name(file, path) for file in find_files([path], suffixes=SUFFIXES)}
        for file, name in names.items():
            if file not in found:
                found[file] = _free(name, taken)
                taken.add(found[file])
    return found


def content_of(paths: Sequence[str]) -> str:
    """Return a hash of the names and the bytes of all that is read."""
    from hanok.text.data.pipeline.source.hf import identity

    named = find_sources(paths)
    return digest([[name, identity(path) if path.startswith(HUB) else _sha256(path)] for path, name in named.items()])


def _sha256(path: str) -> str:
    about = os.stat(path)
    return _sha256_of(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=1 << 16)  # the same file is asked about when a run is named and when it begins
def _sha256_of(path: str, size: int, changed: int) -> str:
    return file_sha256(Path(path))


def _name(file: Path, path: str) -> str:
    given = Path(path)
    if file == given:
        return file.name
    if given.is_dir():
        return (Path(given.resolve().name) / file.relative_to(given)).as_posix()
    root = Path(*_until_magic(given.parts))
    return file.relative_to(root).as_posix()


def _until_magic(parts: Sequence[str]) -> list[str]:
    fixed = []
    for part in parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return fixed


def _free(name: str, taken: set[str]) -> str:
    free, copy = name, 1
    while free in taken:
        copy += 1
        free = f"{name}~{copy}"
    return free
