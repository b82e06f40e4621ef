"""A scaling ladder: measured losses, the fitted law of each size, and the run that was predicted."""

from __future__ import annotations

from collections.abc import Sequence

from hanok.report.figure.style import COLOURS, MARKERS, VERMILLION, axis, band, layout, line, points
from hanok.report.parts import Figure, Json, Plot, Table, Words


def ladder_figure(ladder: Json) -> Figure | None:
    """Draw what ladder.json holds: runs, fitted curves, and the held-out run with its interval."""
    runs, held = ladder.get("runs", []), ladder.get("held_out")
    if not runs:
        return None
    data: list[Json] = []
    sizes = sorted({run["params"] for run in runs})
    curves = {curve["params"]: curve for curve in ladder.get("curves", [])}
    for number, size in enumerate(sizes):
        colour = COLOURS[number % 3]
        label = f"{size:,} weights"
        mine = [run for run in runs if run["params"] == size]
        data.append(
            points([r["tokens"] for r in mine], [r["loss"] for r in mine], label, colour, MARKERS[number % 8])
            | {"legendgroup": label}
        )
        if curve := curves.get(size):
            data.append(line(curve["tokens"], curve["loss"], label, colour, width=1.5) | _silent(label))
    if held:
        data += _held_out(held, ladder.get("prediction", {}), curves.get(held["params"]))
    x = axis("training tokens", type="log", dtick="D2", tickformat="~s")
    y = axis("validation loss (nats per token)", type="log", tickformat="~g")
    shape = layout(x, y, height=420)
    title = Words("Loss over tokens, by model size", "모델 크기별 손실과 학습 토큰 수")
    return Figure("ladder", (Plot("ladder", title, data, shape, wide=True),), _table(runs, held, ladder))


def fit_table(ladder: Json) -> Table | None:
    """Return the law's numbers with their intervals."""
    fit = ladder.get("fit", {})
    if not fit.get("values"):
        return None
    level = f"{100 * fit['level']:g} %"
    rows = [[name, value, *fit["intervals"].get(name, (None, None))] for name, value in fit["values"].items()]
    return Table(("number", "value", f"low ({level})", f"high ({level})"), rows)


def _held_out(held: Json, prediction: Json, curve: Json | None) -> list[Json]:
    label = f"{held['params']:,} weights (held out)"
    data: list[Json] = []
    if curve:
        data += [
            trace | _silent(label) for trace in band(curve["tokens"], curve["low"], curve["high"], label, VERMILLION)
        ]
        data.append(line(curve["tokens"], curve["loss"], label, VERMILLION, width=1.5, dash="dot") | _silent(label))
    if prediction:
        bars = {
            "type": "data",
            "symmetric": False,
            "array": [prediction["high"] - prediction["loss"]],
            "arrayminus": [prediction["loss"] - prediction["low"]],
            "thickness": 2,
            "width": 6,
        }
        said = points([prediction["tokens"]], [prediction["loss"]], "predicted", VERMILLION, "circle-open", size=13)
        data.append(said | {"error_y": bars})
    return [*data, points([held["tokens"]], [held["loss"]], "measured", VERMILLION, "star", size=14)]


def _silent(group: str) -> Json:
    return {"showlegend": False, "legendgroup": group}


def _table(runs: Sequence[Json], held: Json | None, ladder: Json) -> Table:
    rows = [["fitted", run["params"], run["tokens"], run["loss"], None, None, None] for run in runs]
    if held:
        said = ladder.get("prediction", {})
        rows.append(
            ["held out", held["params"], held["tokens"], held["loss"], *(said.get(k) for k in ("loss", "low", "high"))]
        )
    return Table(("run", "weights", "tokens", "loss", "predicted", "low", "high"), rows)
