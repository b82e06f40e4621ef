"""Loss against learning rate for several widths: where the curves are lowest, with muP and without."""

from __future__ import annotations

import math

from hanok.report.figure.style import COLOURS, MARKERS, axis, layout, line, points
from hanok.report.parts import Figure, Json, Plot, Table, Words

TITLES = {
    "mup": Words("With muP: rates found on the smallest width", "muP 사용: 가장 작은 폭에서 찾은 학습률"),
    "plain": Words("Without: the same rate at every width", "muP 없음: 모든 폭에 같은 학습률"),
}


def widths_figure(results: Json) -> Figure:
    """Draw what results.json of `hanok compare widths` holds: one chart per arm, on the same axes."""
    rates = results["rates"]
    known = [loss for curve in results["curves"] for loss in curve["losses"] if loss is not None]
    start = max(curve["losses"][0] or 0.0 for curve in results["curves"])
    high = min(max(known), max(start, 1.6 * min(known)))  # a run that went wild must not flatten all others
    pad = 0.04 * (high - min(known))
    span = {"range": [min(known) - pad, high + pad]}
    plots = []
    for arm in dict.fromkeys(curve["arm"] for curve in results["curves"]):
        data: list[Json] = []
        for place, curve in enumerate(c for c in results["curves"] if c["arm"] == arm):
            name, colour = f"width {curve['width']}", COLOURS[place % len(COLOURS)]
            data.append(line(rates, curve["losses"], name, colour) | {"legendgroup": name})
            marks = points(rates, curve["losses"], name, colour, MARKERS[place % len(MARKERS)], size=6)
            data.append(marks | {"showlegend": False, "legendgroup": name})
            if curve["best_rate"] is not None:
                star = points([curve["best_rate"]], [curve["best_loss"]], f"{name}: lowest", colour, "star", size=15)
                data.append(star | {"showlegend": False, "legendgroup": name})
        ticks = {"tickvals": rates, "ticktext": [f"2<sup>{math.log2(rate):.3g}</sup>" for rate in rates]}
        shape = layout(axis("learning rate", type="log", **ticks), axis("validation loss", **span), height=420)
        plots.append(Plot(f"widths-{arm}", TITLES[arm], data, shape))
    table = Table(
        ("arm", "width", *(f"{rate:.3g}" for rate in rates), "best rate"),
        [[curve["arm"], curve["width"], *curve["losses"], curve["best_rate"]] for curve in results["curves"]],
    )
    note = Words(
        "Stars mark where each curve is lowest (vertex of a parabola through the best rate and its neighbours). A run "
        "that diverged has no point.",
        "별표는 각 곡선의 최저점(최적 학습률과 양옆 점을 지나는 포물선의 꼭짓점)입니다. 발산한 실행에는 점이 없습니다.",
    )
    return Figure("widths", tuple(plots), table, note)
