"""The tasks that a program can check."""

from __future__ import annotations

from hanok.core.artifact import Artifact
from hanok.report.command import again
from hanok.report.figure.bars import bar_plot
from hanok.report.parts import Figure, Section, Table, Words
from hanok.report.run import Run, read_json
from hanok.report.section import SECTIONS
from hanok.report.show import figure

WHAT = Words(
    "Generated questions whose only right answer is known. The hash of an item decides its split, so no held-out "
    "question is ever seen in training, whatever the stage or seed.",
    "정답이 하나뿐인 문제를 만들어 냅니다. 문항의 해시가 소속을 정하므로 평가 문항은 어떤 단계에서도 학습에 "
    "쓰이지 않습니다.",
)
COUNTS = ("conversations", "preferences", "prompts", "valid", "held_out")


@SECTIONS.register("tasks")
def tasks(run: Run, step: str, artifact: Artifact) -> Section:
    """Show the tasks, how hard they are and what guessing gets."""
    found = read_json(artifact, "tasks.json")
    rows = [[name, task.get("chance"), _dials(task.get("config", {}))] for name, task in sorted(found.items())]
    bars = [(name, float(chance or 0), False) for name, chance, _ in rows]
    title = Words("What guessing gets", "찍었을 때의 정답률")
    plots = (bar_plot("chance", title, bars, unit="share of right answers", form=".2%", wide=True),) if bars else ()
    return Section(
        step,
        Words("Checkable tasks", "검증할 수 있는 과제"),
        WHAT,
        facts=[(Words(name.replace("_", "-"), name), figure(artifact.metrics.get(name))) for name in COUNTS],
        figures=[Figure("tasks", plots, Table(("task", "chance", "difficulty"), rows))] if rows else [],
        commands=again(run, artifact),
        origins=[run.origin(artifact)],
    )


def _dials(config: dict[str, object]) -> str:
    return ", ".join(f"{name} {figure(value)}" for name, value in config.items() if name != "kind") or "–"
