"""Which prompts reinforcement learning explores."""

from __future__ import annotations

from hanok.core.artifact import Artifact
from hanok.report.figure.bars import bar_plot
from hanok.report.parts import Figure, Section, Table, Words
from hanok.report.run import Run
from hanok.report.section import SECTIONS
from hanok.report.show import figure

WHAT = Words(
    "A group of answers that are all right, or all wrong, teaches nothing. On validation questions (never the "
    "held-out "
    "ones) the tasks are found that the model neither has mastered nor never gets right.",
    "모두 맞거나 모두 틀린 답의 무리에서는 배울 것이 없습니다. 평가 문항이 아닌 검증 문항으로, 다 익히지도 "
    "아예 못하지도 않는 "
    "과제를 고릅니다.",
)


@SECTIONS.register("focus")
def focus(run: Run, step: str, artifact: Artifact) -> Section:
    """Show the validation accuracies and the tasks that were kept."""
    kept = {name.strip() for name in str(artifact.metrics.get("tasks", "")).split(",")}
    valid = {name[6:]: value for name, value in artifact.metrics.items() if name.startswith("valid/")}
    rows = [[name, value, "yes" if name in kept else "no"] for name, value in sorted(valid.items())]
    bars = [(name, float(value), name in kept) for name, value in sorted(valid.items())]
    title = Words("Validation accuracy (blue: explored further)", "검증 정답률 (파랑: 더 탐색할 과제)")
    plots = (bar_plot("focus", title, bars, unit="right answers", form=".0%", wide=True),)
    return Section(
        step,
        Words("Prompts worth exploring", "탐색할 만한 문제"),
        WHAT,
        facts=[(Words("prompts", "문제 수"), figure(artifact.metrics.get("prompts")))],
        figures=[Figure("focus", plots, Table(("task", "validation accuracy", "explored"), rows))] if rows else [],
        origins=[run.origin(artifact)],
    )
