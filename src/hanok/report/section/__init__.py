"""Sections of the page, one file per stage; the order of a model's life is the order of the page."""

from __future__ import annotations

from collections.abc import Callable

from hanok.core.artifact import Artifact
from hanok.core.registry import Registry
from hanok.report.parts import Section
from hanok.report.run import Run

Builder = Callable[[Run, str, Artifact], Section]

SECTIONS: Registry[Builder] = Registry("report section", __name__)
ORDER = ("plan", "clean", "data", "tasks", "pretrain", "sft", "dpo", "focus", "grpo", "ladder", "quantize", "serve")


def sections(run: Run) -> list[Section]:
    """Build the section of every artifact whose stage has one; a stage without one is shown by its metrics alone."""
    from hanok.report.section.other import other

    place = {stage: number for number, stage in enumerate(ORDER)}
    steps = [(step, artifact) for step, artifact in run.artifacts.items() if artifact.kind != "scores"]
    steps.sort(key=lambda item: (place.get(item[1].name, len(ORDER)), item[1].created, item[0]))
    built = []
    for step, artifact in steps:
        known = artifact.name in SECTIONS
        built.append((SECTIONS[artifact.name] if known else other)(run, step, artifact))
    return built
