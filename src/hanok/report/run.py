"""Read access to the artifacts of a run: files, lineage by hash, evaluations in the order of a model's life."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hanok.core.artifact import Artifact, ArtifactError
from hanok.core.log import read_metrics
from hanok.report.parts import Json, Origin

LIFE = ("base", "pretrain", "sft", "dpo", "grpo", "int8", "quantize")


@dataclass(frozen=True)
class Scores:
    """One evaluation: whose, and its results.json."""

    label: str
    artifact: Artifact
    results: Json

    @property
    def tasks(self) -> dict[str, Json]:
        """Return the figures of each task."""
        return dict(self.results.get("tasks", {}))

    @property
    def drawn(self) -> dict[str, Json]:
        """Return the figures of each task with answers drawn at temperature 1, where they were asked for."""
        return dict(self.results.get("drawn", {}))

    @property
    def bits(self) -> float | None:
        """Return bits per byte of held-out text, where it was measured."""
        value = self.results.get("text", {}).get("bits_per_byte")
        return None if value is None else float(value)

    def samples(self, task: str) -> list[Json]:
        """Return the questions and answers of a task, in the order of the held-out file."""
        return read_metrics(self.artifact.path / f"samples_{task}.jsonl")


@dataclass(frozen=True)
class Run:
    """The artifacts of a report, by the name of their step; `out` is where the report will lie."""

    artifacts: Mapping[str, Artifact]
    out: Path

    def of(self, stage: str) -> list[tuple[str, Artifact]]:
        """Return (step, artifact) of all steps that one stage made."""
        return [(step, artifact) for step, artifact in self.artifacts.items() if artifact.name == stage]

    def one(self, stage: str) -> Artifact | None:
        """Return the artifact of a stage, if there is one."""
        found = self.of(stage)
        return found[0][1] if found else None

    def where(self, artifact: Artifact) -> str:
        """Return an artifact's folder as one would type it: relative where it lies near the report."""
        shown = Path(os.path.relpath(artifact.path, Path.cwd()))
        return shown.as_posix() if ".." not in shown.parts else artifact.path.name

    def maker(self, digest: str | None) -> str | None:
        """Return the step of this run whose artifact has a digest."""
        return self._makers.get(digest or "")

    def origin(self, artifact: Artifact) -> Origin:
        """Return where an artifact lies and what it was made from."""
        seconds = artifact.metrics.get("seconds")
        inputs = {name: self.maker(digest) or f"{digest[:12]}…" for name, digest in artifact.inputs.items()}
        return Origin(self.where(artifact), artifact.digest, artifact.created, seconds, inputs)

    def scores_of(self, digest: str | None) -> Scores | None:
        """Return the evaluation of the model with a digest."""
        return next((s for s in self.scores if digest and s.artifact.inputs.get("model") == digest), None)

    @cached_property
    def scores(self) -> list[Scores]:
        """Return all evaluations, in the order of a model's life."""
        found = [self._scores(step, a) for step, a in self.artifacts.items() if a.kind == "scores"]
        place = {label: number for number, label in enumerate(LIFE)}
        return sorted(found, key=lambda s: (place.get(s.label, len(LIFE)), s.artifact.created, s.label))

    @cached_property
    def _makers(self) -> dict[str, str]:
        return {artifact.digest: step for step, artifact in self.artifacts.items()}

    def _scores(self, step: str, artifact: Artifact) -> Scores:
        source = self.maker(artifact.inputs.get("model"))
        label = artifact.config.get("label") or source or step.removeprefix("eval-")
        return Scores(str(label), artifact, read_json(artifact, "results.json"))


def read_json(artifact: Artifact, name: str) -> Json:
    """Return one of an artifact's JSON files; empty where the stage wrote none of that name."""
    if name not in artifact.files:
        return {}
    try:
        data = json.loads((artifact.path / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{artifact.path / name} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise ArtifactError(f"{artifact.path / name} should hold an object, not a {type(data).__name__}")
    return data


def weight_bytes(artifact: Artifact) -> int:
    """Return the size of a model's weight files."""
    return sum((artifact.path / name).stat().st_size for name in artifact.files if name.endswith(".safetensors"))


def number(value: Any) -> float | None:
    """Return a finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < float("inf") else None
