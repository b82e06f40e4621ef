"""Which artifacts a report is about: the newest of each step in a run's folder."""

from __future__ import annotations

import re
from pathlib import Path

from hanok.core.artifact import MANIFEST, Artifact
from hanok.core.errors import UsageError

HASHED = re.compile(r"(?P<step>.+)-[0-9a-f]{8,64}")


def find_artifacts(root: Path) -> dict[str, Artifact]:
    """Return step name -> newest artifact among the folders `<step>-<hash>` of `root`, or `root` itself if it is one.

    Unfinished work (`.partial`) is passed over; a damaged file is an error that names it.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is no folder: give the folder of a run, such as runs/quickstart")
    if (root / MANIFEST).is_file():
        return {step_of(root): Artifact.load(root)}
    found: dict[str, Artifact] = {}
    for manifest in sorted(root.glob(f"*/{MANIFEST}"), key=_age):
        if not manifest.parent.name.endswith(".partial") and not manifest.parent.name.startswith("."):
            found[step_of(manifest.parent)] = Artifact.load(manifest.parent, verify=False)
    if not found:
        raise UsageError(f"there is nothing to report in {root}: no finished stage{_below(root)}")
    for artifact in found.values():
        artifact.verify()
    return found


def step_of(path: Path) -> str:
    """Return the step in a folder's name: `eval-sft-0a1b2c3d4e` is step `eval-sft`."""
    name = path.resolve().name
    match = HASHED.fullmatch(name)
    return match["step"] if match else name


def _age(manifest: Path) -> tuple[str, float]:
    return Artifact.load(manifest.parent, verify=False).created, manifest.stat().st_mtime


def _below(root: Path) -> str:
    runs = sorted({path.parent.parent for path in root.glob(f"*/*/{MANIFEST}")})
    return f"; did you mean {runs[-1]}?" if runs else " (a stage leaves a folder <step>-<hash> with artifact.json)"
