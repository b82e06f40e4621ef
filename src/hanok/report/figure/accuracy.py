"""Held-out accuracy by task and stage: points with 95 % intervals, and what guessing would get."""

from __future__ import annotations

from collections.abc import Sequence

from hanok.report.figure.style import COLOURS, GREY, MARKERS, axis, layout, plain
from hanok.report.parts import Figure, Json, Plot, Table, Words
from hanok.report.run import Scores

SPREAD = 0.7  # of a task's place that its stages share


def accuracy_figure(scores: Sequence[Scores], name: str = "accuracy") -> Figure | None:
    """Draw the evaluations that hold tasks side by side."""
    shown = [each for each in scores if each.tasks]
    tasks = sorted({task for each in shown for task in each.tasks})
    if not tasks:
        return None
    data = [_stage(each, tasks, place, len(shown)) for place, each in enumerate(shown)]
    x = axis(tickvals=list(range(len(tasks))), ticktext=[plain(task).replace("_", " ") for task in tasks])
    x |= {"range": [-0.55, len(tasks) - 0.45], "showgrid": False}
    y = axis("right answers", range=[-0.03, 1.03], tickformat=".0%")
    title = Words("Held-out accuracy per task and stage", "과제별·단계별 정답률 (학습에 쓰지 않은 문항)")
    plot = Plot(name, title, [*data, _chance(shown, tasks)], layout(x, y, height=420), wide=True)
    note = Words(
        "Bars are 95 % Wilson intervals; the dashed line is what guessing would get.",
        "막대는 95 % 윌슨 구간, 점선은 찍었을 때의 정답률입니다.",
    )
    return Figure(name, (plot,), accuracy_table(shown, tasks), note)


def accuracy_table(scores: Sequence[Scores], tasks: Sequence[str]) -> Table:
    """Return one row per task and stage."""
    columns = ("task", "stage", "accuracy", "low", "high", "n", "chance", "above chance")
    rows = []
    for task in tasks:
        for each in scores:
            if figure := each.tasks.get(task):
                measured = [figure[key] for key in ("value", "low", "high", "n", "chance")]
                rows.append([task, each.label, *measured, "yes" if figure["low"] > figure["chance"] else "no"])
    return Table(columns, rows)


def _stage(each: Scores, tasks: Sequence[str], place: int, count: int) -> Json:
    offset = SPREAD * ((place + 0.5) / count - 0.5)
    rows = [(number + offset, task, each.tasks[task]) for number, task in enumerate(tasks) if task in each.tasks]
    values = [figure["value"] for *_, figure in rows]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(each.label),
        "x": [x for x, *_ in rows],
        "y": values,
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [figure["high"] - figure["value"] for *_, figure in rows],
            "arrayminus": [figure["value"] - figure["low"] for *_, figure in rows],
            "thickness": 1.6,
            "width": 3,
        },
        "marker": {
            "color": COLOURS[place % len(COLOURS)],
            "symbol": MARKERS[place % len(MARKERS)],
            "size": 9,
        },
        "text": [f"{plain(task)}: {figure['value']:.1%} of {figure['n']}" for _, task, figure in rows],
        "hovertemplate": "%{text}<br>after " + plain(each.label) + "<extra></extra>",
    }


def _chance(scores: Sequence[Scores], tasks: Sequence[str]) -> Json:
    x: list[float | None] = []
    y: list[float | None] = []
    for number, task in enumerate(tasks):
        level = next(each.tasks[task]["chance"] for each in scores if task in each.tasks)
        x += [number - 0.45, number + 0.45, None]
        y += [level, level, None]
    style = {"color": GREY, "width": 1.5, "dash": "dash"}
    return {"type": "scatter", "mode": "lines", "name": "chance", "x": x, "y": y, "line": style, "hoverinfo": "skip"}
