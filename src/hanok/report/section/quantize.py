"""Weights in eight bits: what they save and what they cost."""

from __future__ import annotations

from hanok.core.artifact import Artifact
from hanok.report.command import again
from hanok.report.compare import changes
from hanok.report.figure.bars import bar_plot
from hanok.report.parts import Figure, Json, Remark, Section, Table, Words
from hanok.report.run import Run, Scores, read_json
from hanok.report.section import SECTIONS
from hanok.report.section.training import evaluated
from hanok.report.show import figure, megabytes, percent

WHAT = Words(
    "Each row of a weight matrix is stored as int8 numbers and one scale; embeddings and head stay as they are. The "
    "error of every layer is measured on its weights and on what it computes from real text.",
    "가중치 행렬의 각 행을 int8 수와 배율 하나로 저장하고 임베딩과 출력층은 그대로 둡니다. 층마다 가중치의 "
    "오차와 실제 글에서 "
    "계산한 값의 오차를 잽니다.",
)
POINTS = 2.0  # of accuracy that a packed model may lose


@SECTIONS.register("quantize")
def quantize(run: Run, step: str, artifact: Artifact) -> Section:
    """Show sizes, each layer's error, and accuracy and bits per byte before and after."""
    record = {**artifact.metrics, **read_json(artifact, "quantize.json")}
    before, after = run.scores_of(artifact.inputs.get("model")), run.scores_of(artifact.digest)
    remark = cost(before, after, record) if before and after else None
    return Section(
        step,
        Words("Quantisation", "양자화"),
        WHAT,
        facts=_facts(record),
        remarks=[remark] if remark else [],
        figures=[made for made in (_sizes(record), _layers(record), _effects(before, after)) if made],
        commands=again(run, artifact),
        origins=[run.origin(artifact), *evaluated(run, after)],
    )


def cost(before: Scores, after: Scores, record: Json) -> Remark | None:
    """Say whether the packed model stays within two points on every task, and what happened to bits per byte."""
    found = changes(before, after)
    if not found:
        return None
    worst = max(found, key=lambda change: abs(change.points))
    bits = f"{before.bits:.3f} → {after.bits:.3f}" if before.bits is not None and after.bits is not None else "–"
    size = f"{100 * record['ratio']:.0f} %" if "ratio" in record else "–"
    kept = abs(worst.points) <= POINTS
    en = (
        f"The quantised model is {'within' if kept else 'NOT within'} {POINTS:g} points on every task (largest "
        f"change: "
        f"{worst.task} {worst.points:+.1f}); bits/byte {bits}, at {size} of the size."
    )
    ko = (
        f"양자화한 모델은 모든 과제에서 {POINTS:g}%p {'이내입니다' if kept else '이내가 아닙니다'} (최대 변화: "
        f"{worst.task} "
        f"{worst.points:+.1f}). 바이트당 비트 {bits}, 크기는 {size}."
    )
    return Remark("good" if kept else "bad", Words(en, ko))


def _facts(record: Json) -> list[tuple[Words, str]]:
    facts = [(Words("layers packed", "줄인 층"), figure(record.get("layers")))]
    if "ratio" in record:
        facts.append((Words("size of the file", "파일 크기"), percent(record["ratio"])))
    facts.append((Words("worst layer", "오차가 가장 큰 층"), figure(record.get("worst_layer"))))
    facts.append((Words("kept as they are", "그대로 둔 것"), figure(record.get("kept"))))
    return facts


def _sizes(record: Json) -> Figure | None:
    if not record.get("bytes_before"):
        return None
    sizes = [("before", record["bytes_before"], False), ("after", record["bytes_after"], True)]
    title = Words("Size of the weight file", "가중치 파일의 크기")
    plot = bar_plot(
        "size", title, [(name, size / 1e6, ours) for name, size, ours in sizes], unit="MB", form=".2f", wide=True
    )
    return Figure("size", (plot,), Table(("weights", "bytes", "size"), [[n, s, megabytes(s)] for n, s, _ in sizes]))


def _layers(record: Json) -> Figure | None:
    layers = record.get("per_layer", [])
    if not layers:
        return None
    measure = "output_error" if all(layer.get("output_error") is not None for layer in layers) else "weight_error"
    worst = sorted(layers, key=lambda layer: -layer[measure])
    bars = [(layer["name"], 100 * layer[measure], True) for layer in worst[:24]]
    title = Words(f"Relative {measure.replace('_', ' ')} of each layer", "층별 상대 오차")
    plot = bar_plot("layers", title, bars, unit="%", form=".3f", wide=True)
    columns = ("name", "shape", "weight_error", "max_weight_error", "output_error", "bytes_before", "bytes_after")
    rows = [["×".join(map(str, v)) if isinstance(v := layer.get(c), list) else v for c in columns] for layer in layers]
    return Figure("layers", (plot,), Table(columns, rows))


def _effects(before: Scores | None, after: Scores | None) -> Figure | None:
    if before is None or after is None:
        return None
    rows = [[c.task, c.before, c.after, c.points, c.won, c.lost, c.p] for c in changes(before, after)]
    columns = ("task", "before", "after", "points", "won", "lost", "p")
    note = Words("Accuracy before and after, question by question.", "문항별로 견준 전후 정답률입니다.")
    return Figure("quantised-accuracy", (), Table(columns, rows), note) if rows else None
