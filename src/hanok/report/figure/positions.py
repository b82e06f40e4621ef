"""How far position schemes reach: bits per byte over the range of positions."""

from __future__ import annotations

from hanok.report.figure.style import COLOURS, GREY, MARKERS, axis, layout, line, points
from hanok.report.parts import Figure, Json, Plot, Table, Words


def positions_figure(results: Json) -> Figure:
    """Draw what results.json of `hanok compare positions` holds: schemes as trained, and RoPE changed afterwards."""
    bands, length = results["bands"], results["length"]
    times = [end // length for _, end in bands]
    schemes = list(dict.fromkeys(row["scheme"] for row in results["rows"]))
    data: list[Json] = []
    dashes = ("dash", "dot", "dashdot", "longdash")
    changes = list(dict.fromkeys(row["change"] for row in results["rows"] if row["change"]))
    for row in results["rows"]:
        place, change = schemes.index(row["scheme"]), row["change"]
        name = row["scheme"] + (f" + {change}" if change else "")
        colour = GREY if change == "window" else COLOURS[place % len(COLOURS)]
        errors = {"type": "data", "array": [2 * error for error in row["se"]], "thickness": 1, "width": 3}
        dash = dashes[changes.index(change) % len(dashes)] if change else "solid"
        data.append(line(times, row["bits_per_byte"], name, colour, dash=dash) | {"legendgroup": name})
        marks = points(times, row["bits_per_byte"], name, colour, MARKERS[place % len(MARKERS)], size=7)
        data.append(marks | {"error_y": errors, "showlegend": False, "legendgroup": name})
    ticks = {
        "tickvals": times,
        "ticktext": [f"{time}x<br>{a}–{b - 1}" for time, (a, b) in zip(times, bands, strict=True)],
    }
    shape = layout(
        axis("positions, in lengths of the rows trained on", type="log", **ticks), axis("bits per byte"), height=460
    )
    title = Words("Bits per byte beyond the training length", "학습 길이를 넘어선 위치의 바이트당 비트")
    heads = [f"{time}x" for time in times]
    table = Table(
        ("scheme", "change", *heads, *(f"{head} se" for head in heads)),
        [[row["scheme"], row["change"], *row["bits_per_byte"], *row["se"]] for row in results["rows"]],
    )
    note = Words(
        "Bars are two standard errors over windows. Every token sees its whole past; dashed lines change the trained "
        "RoPE model without training it again.",
        "막대는 표준오차의 두 배입니다. 모든 토큰은 앞의 전부를 봅니다. "
        "점선은 학습된 RoPE 모델을 다시 학습하지 않고 바꾼 것입니다.",
    )
    return Figure("positions", (Plot("positions", title, data, shape, wide=True, log=True),), table, note)


def gains_figure(results: Json) -> Figure:
    """Say in a table what the longer past saves in the last range, against the same text read in short rows."""
    start, end = results["bands"][-1]
    rows = [
        [row["scheme"], row["change"], row["bits_per_byte"][-1], row["pieces"][-1], row["gain"][-1], row["gain_se"][-1]]
        for row in results["rows"]
    ]
    length = results["length"]
    table = Table(("scheme", "change", f"positions {start}-{end - 1}", f"in pieces of {length}", "saved", "se"), rows)
    note = Words(
        f"Positions {start} to {end - 1}, against the same text read in pieces of {length} tokens by the model as "
        "trained. What is saved is in bits per byte, paired: below 0 the longer past hurts.",
        f"위치 {start}–{end - 1}을 학습한 그대로의 모델이 {length}토큰씩 끊어 읽었을 때와 견준 값입니다. "
        "아낀 양은 바이트당 비트이며, 0보다 작으면 긴 문맥이 해가 된다는 뜻입니다.",
    )
    return Figure("gains", (), table, note)
