"""The funnel of the documents."""

from __future__ import annotations

from hanok.core.artifact import Artifact
from hanok.report.command import again
from hanok.report.figure.bars import bar_plot
from hanok.report.parts import Figure, Section, Table, Words
from hanok.report.run import Run
from hanok.report.section import SECTIONS
from hanok.report.show import figure, megabytes, percent
from hanok.text.data.pipeline.funnel import reasons, rows

WHAT = Words(
    "Documents are repaired, filtered, freed of copies, evaluation items and personal data. Every dropped document "
    "stands in dropped.jsonl with its id, step and reason, and the sums of each step add up to the next.",
    "문서를 바로잡고, 거르고, 중복과 평가 문항과 개인정보를 없앱니다. 버린 문서는 모두 dropped.jsonl에 "
    "id, 단계, 이유와 함께 남으며, 단계마다 합이 다음 단계와 맞습니다.",
)


@SECTIONS.register("clean")
def clean(run: Run, step: str, artifact: Artifact) -> Section:
    """Show how many documents and bytes each step of the pipeline leaves, and why the others were dropped."""
    data = artifact.metrics.get("funnel", {})
    read, kept = artifact.metrics.get("documents_read", 0), artifact.metrics.get("documents", 0)
    facts = [
        (Words("documents read", "읽은 문서"), figure(read)),
        (Words("documents kept", "남은 문서"), figure(kept)),
        (Words("share kept", "남은 비율"), percent(kept / max(read, 1))),
        (Words("size", "크기"), megabytes(artifact.metrics.get("bytes", 0))),
    ]
    title = Words("Documents left after each step", "단계마다 남은 문서")
    through = list(rows(data))
    bars = bar_plot("funnel", title, [(row[0], float(row[3]), True) for row in through], unit="documents", form=",.0f")
    steps = Table(("step", "documents", "dropped", "kept", "bytes kept", "share of all"), through)
    dropped = [(f"{name}: {reason}", float(count), True) for name, reason, count, _ in reasons(data)]
    why = Words("Why documents were dropped", "문서를 버린 까닭")
    figures = [Figure("funnel", (bars,), steps)] if through else []
    if dropped:
        table = Table(("step", "reason", "documents", "bytes"), list(reasons(data)))
        figures.append(Figure("reasons", (bar_plot("reasons", why, dropped, unit="documents", form=",.0f"),), table))
    return Section(
        step,
        Words("Documents", "문서"),
        WHAT,
        facts=facts,
        figures=figures,
        commands=again(run, artifact),
        origins=[run.origin(artifact)],
    )
