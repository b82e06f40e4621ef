"""The manifest of a checkpoint: sha256 of every file and of itself, so that no changed bit anywhere goes unnoticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hanok.core.artifact import ArtifactError, file_sha256
from hanok.core.config import digest
from hanok.train.checkpoint.ranks import exchange, place

MANIFEST, STATE = "manifest.json", "state.json"
FORMAT = 2
OURS = (".safetensors", ".json")


def manifest(step: int, ranks: int, files: dict[str, str]) -> str:
    """Return the one text that vouches for these files as the checkpoint of a step."""
    facts = {"format": FORMAT, "step": step, "ranks": ranks, "files": files}
    return json.dumps({**facts, "sha256": digest(facts)}, sort_keys=True)


def verify(path: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint whose every bit is as it was written, or name the file that is not.

    Ranks share the reading: each hashes some files, and all learn what was found.
    """
    facts, problem = {}, None
    try:
        facts = _facts(path)
        _compare(path, facts["files"])
    except ArtifactError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{path} cannot be read: {error}"
    found = [text for text in exchange(problem) if text is not None]
    if found:
        raise ArtifactError(found[0])
    return facts


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a checkpoint."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} cannot be read: it holds no object")
    return found


def _facts(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        text = file.read_text(encoding="utf-8")
        facts: dict[str, Any] = json.loads(text)
        if facts.get("format") != FORMAT and "files" in facts:
            raise ArtifactError(f"{file} has changed, or is of another version of hanok: its format is not {FORMAT}")
        if text != manifest(facts["step"], facts["ranks"], facts["files"]):
            raise ArtifactError(f"{file} has changed since it was written")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{file} cannot be read: {error}") from None
    if path.name != name_of(facts["step"]):
        raise ArtifactError(f"{file} is the manifest of step {facts['step']}: {path.name} is not what was written here")
    for item in path.iterdir():
        if item.suffix in OURS and item.name != MANIFEST and item.name not in facts["files"]:
            raise ArtifactError(f"{item} does not belong to this checkpoint")
    return facts


def _compare(path: Path, files: dict[str, str]) -> None:
    rank, size = place()
    for name in files:
        if not (path / name).is_file():
            raise ArtifactError(f"{path / name} is missing")
    for name in sorted(files)[rank::size]:
        if file_sha256(path / name) != files[name]:
            raise ArtifactError(f"{path / name} has changed since it was written (sha256 differs)")


def name_of(step: int) -> str:
    """Return the folder's name of a step's checkpoint."""
    return f"step-{step:06d}"
