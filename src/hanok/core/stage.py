"""Stages: one step of a model's life, whose directory is named by its config and inputs, so that a rerun is a no-op."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hanok.core.artifact import MANIFEST, Artifact, ArtifactError, atomic_write, file_sha256, write_manifest
from hanok.core.claim import Claim
from hanok.core.config import Config, digest
from hanok.core.durable import make_dirs, publish, sweep
from hanok.core.errors import UsageError
from hanok.core.log import Log

Run = Callable[[Any, dict[str, Path], Path, Log], dict[str, Any]]
Resume = Literal["auto", "true", "false"]
CHECKPOINTS = "checkpoints"  # of a stage that is not done yet, below its work directory


@dataclass(frozen=True)
class Stage:
    """`run(config, inputs, out, log) -> metrics`, with the kinds of artifact that go in and come out."""

    name: str
    kind: str
    config: type[Config]
    run: Run
    inputs: Mapping[str, str] = field(default_factory=dict)


def run_stage(
    stage: Stage,
    config: Config,
    inputs: Mapping[str, Path],
    root: Path,
    *,
    log: Log,
    resume: Resume = "auto",
    name: str | None = None,
) -> Artifact:
    """Run a stage below `root`, or return what an equal earlier run has left.

    The work directory `<name>-<hash>.partial` survives a kill, so that the stage can go on from its own checkpoints;
    these are removed once `artifact.json` was written, and then it becomes `<name>-<hash>` by one rename.
    `resume="false"` starts over, `"true"` insists that there is something to go on from.
    """
    digests = check_inputs(stage, inputs)
    path = root / f"{name or stage.name}-{digest([stage.name, config.to_dict(), digests])[:10]}"
    work = path.with_name(path.name + ".partial")
    if resume == "true" and not path.exists() and not work.exists():
        raise UsageError(f"nothing to resume: neither {path} nor {work} exists (use --resume auto)")
    with only_one(path):
        if resume == "false":
            remove(path)
            remove(work)
        if path.exists():
            return Artifact.load(path)
        if not (work / MANIFEST).exists():  # else it was done, and killed while it removed its checkpoints
            started = time.monotonic()
            make_dirs(work)
            atomic_write(work / "config.yaml", config.to_yaml())
            metrics = stage.run(config, dict(inputs), work, log.at(work))
            sweep(work)  # only now: until a stage is done, what an earlier life of it started may still be writing
            seconds = round(time.monotonic() - started, 2)
            write_manifest(
                work,
                kind=stage.kind,
                name=stage.name,
                config=config.to_dict(),
                inputs=digests,
                metrics={**metrics, "seconds": seconds},
                without=CHECKPOINTS,
            )
        remove(work / CHECKPOINTS)
        publish(work, path)
    return Artifact.load(path, verify=False)


def check_inputs(stage: Stage, inputs: Mapping[str, Path]) -> dict[str, str]:
    """Check names and kinds of the inputs before anything runs, and return the digest of each."""
    if set(inputs) != set(stage.inputs):
        raise UsageError(f"stage {stage.name} takes the inputs {sorted(stage.inputs)}, got {sorted(inputs)}")
    return {name: input_digest(Path(path), stage.inputs[name], stage.name) for name, path in inputs.items()}


def input_digest(path: Path, kind: str, stage: str) -> str:
    """Return what identifies an input's content; an artifact's kind must fit, a plain file or folder is hashed."""
    if (path / MANIFEST).is_file():
        artifact = Artifact.load(path)
        if artifact.kind != kind:
            raise ArtifactError(f"stage {stage} needs a {kind!r} artifact, but {path} is a {artifact.kind!r}")
        return artifact.digest
    if path.is_file():
        return file_sha256(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return digest([[file.relative_to(path).as_posix(), file_sha256(file)] for file in files])
    raise UsageError(f"stage {stage}: input {path} does not exist")


def only_one(path: Path) -> Claim:
    """Refuse, in a `with`, to work on a directory that another process is writing."""
    return Claim(path)


def remove(path: Path) -> None:
    """Remove a directory tree, if it is there."""
    import shutil

    if path.exists():
        shutil.rmtree(path)
