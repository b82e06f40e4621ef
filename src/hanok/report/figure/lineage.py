"""The lineage race in pictures: text, probes, gradients, memory and speed of every kind of language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hanok.report.figure.bars import bar_plot
from hanok.report.figure.style import COLOURS, GREY, MARKERS, axis, layout, line, plain
from hanok.report.parts import Figure, Json, Plot, Table, Words

Tables = dict[str, Table]
DASHES = ("solid", "dash", "dot")
SCALE = [[0.0, "rgba(0,114,178,0.04)"], [0.5, "rgba(0,114,178,0.45)"], [1.0, "rgba(0,114,178,0.95)"]]


def language_figure(rows: Sequence[Json]) -> Figure:
    """Draw bits per byte of everybody, in the order of history."""
    bars = [(row["title"], row["bits_per_byte"], row["name"] != "ngram") for row in rows]
    title = Words("Bits per byte of unseen text, in the order of history", "처음 보는 글의 바이트당 비트 (역사 순)")
    note = Words(
        "Less is better. Everybody predicts the same bytes: the second half of windows of held-out text, given the "
        "first. Standard errors are over windows, of one training run each.",
        "작을수록 좋습니다. 모두 같은 바이트, 곧 구간의 앞 절반을 보고 뒤 절반을 예측합니다.",
    )
    columns = ("title", "bits_per_byte", "bits_se", "windows")
    table = Table(columns, [[row[key] for key in columns] for row in rows])
    return Figure("language", (bar_plot("language", title, bars, unit="bits per byte", wide=True),), table, note)


def curves_figure(rows: Sequence[Json], table: Table) -> Figure:
    """Draw bits per byte on the way, against tokens read and against seconds of training."""
    plots = []
    for key, unit, title in (
        ("tokens", "tokens read", Words("On the way: by tokens", "학습 과정: 읽은 토큰")),
        ("seconds", "seconds of training", Words("On the way: by time", "학습 과정: 걸린 시간")),
    ):
        data = []
        for place, row in enumerate(row for row in rows if row["curve"]):
            points = row["curve"][1:]
            x, y = [point[key] for point in points], [point["bits_per_byte"] for point in points]
            data.append(line(x, y, row["title"], COLOURS[place % 8], dash=DASHES[place // 8 % 3]))
        shape = layout(axis(unit, rangemode="tozero"), axis("bits per byte"), height=520)
        plots.append(Plot(f"curves-{key}", title, data, shape, wide=True, log=True))
    note = Words(
        "Measured on a part of the held-out windows. Learning rates fall to the end of each run, so that a curve cut "
        "short would not be a shorter run.",
        "남겨 둔 구간의 일부에서 잰 값입니다.",
    )
    return Figure("curves", tuple(plots), table, note)


def probe_figure(
    rows: Sequence[Json], words: Sequence[tuple[str, Words]], trained: Json, table: Table, note: Words
) -> Figure:
    """Draw who answers what right, as one grid per probe."""
    return Figure(words[0][0], tuple(_grid(rows, word, title, trained[word]) for word, title in words), table, note)


def eras_figure(rows: Sequence[Json], trained: int, shown: float, table: Table, note: Words) -> Figure:
    """Draw recall against distance with 95 % intervals, a panel for each era; `shown` guesses among values shown."""
    word, plots = "recall", []
    for number, era in enumerate(dict.fromkeys(row["era"] for row in rows)):
        members = [row for row in rows if row["era"] == era]
        data: list[Json] = []
        for place, row in enumerate(members):
            data.append(_intervals(row, word, place))
        answers = [each for each in members[0]["answers"] if each["word"] == word]
        ks = [each["k"] for each in answers]
        data.append(line(ks, [each["chance"] for each in answers], "guess", GREY, dash="dot", width=1.5))
        data.append(line(ks, [shown] * len(ks), "guess of those shown", GREY, dash="dash", width=1.5))
        shape = layout(
            axis("tokens ago", type="log", tickvals=ks, ticktext=[str(k) for k in ks]),
            axis("right answers", range=[-0.03, 1.05], tickformat=".0%"),
            height=340,
        )
        shape["shapes"] = [_training_range(trained)]
        plots.append(Plot(f"{word}-{number}", Words(f"Recall: {era}", f"회상: {era}"), data, shape))
    if len(plots) % 2:  # leave no hole beside the last one
        plots[-1] = replace(plots[-1], wide=True)
    return Figure(f"{word}-eras", tuple(plots), table, note)


def reach_figure(curves: Json, table: Table) -> Figure | None:
    """Draw gradient norms against distance."""
    if not curves:
        return None
    colours = {name: COLOURS[i] for i, name in enumerate(dict.fromkeys(name.split(",")[0] for name in curves))}
    data = [
        line(
            list(range(len(curve))),
            [value if value > 1e-30 else None for value in curve],
            name,
            colours[name.split(",")[0]],
            dash="solid" if name.endswith("trained") else "dot",
        )
        for name, curve in curves.items()
    ]
    shape = layout(axis("tokens back"), axis("gradient, over that of the token itself", type="log"), height=380)
    shape["yaxis"] |= {"exponentformat": "power", "dtick": 2}
    title = Words("How far back a gradient reaches in one recurrent layer", "순환층 하나에서 기울기가 닿는 거리")
    note = Words(
        "The mean norm of the gradient that the last output of the first layer sends to the input k tokens before, "
        "without the residual stream. A straight line downwards is exponential vanishing.",
        "첫 층의 마지막 출력이 k 토큰 앞의 입력에 보내는 기울기의 평균 크기입니다.",
    )
    return Figure("reach", (Plot("reach", title, data, shape, wide=True),), table, note)


def memory_figure(rows: Sequence[Json], lengths: Sequence[int], table: Table) -> Figure:
    """Draw bytes that one sequence holds against its length."""
    data = []
    for place, row in enumerate(rows):
        each = row["bytes_per_token"] + row["bytes_per_source_token"]
        y = [row["bytes_per_sequence"] + each * length for length in lengths]
        data.append(line(list(lengths), y, row["title"], COLOURS[place % 8], dash=DASHES[place // 8 % 3]))
    shape = layout(axis("tokens", type="log"), axis("bytes of memory", type="log"), height=520)
    shape["xaxis"] |= {"dtick": 1, "exponentformat": "SI"}
    shape["yaxis"] |= {"dtick": 1, "exponentformat": "SI"}
    title = Words("Memory of one sequence while it is written", "글 한 편을 쓰는 동안의 메모리")
    note = Words(
        "Keys and values in bfloat16, states in float32, as the engine keeps them; of an encoder-decoder, a source and "
        "an answer of that length each.",
        "키와 값은 bfloat16, 상태는 float32로 셉니다.",
    )
    return Figure("memory", (Plot("memory", title, data, shape, wide=True),), table, note)


def speed_figure(rows: Sequence[Json], table: Table) -> Figure:
    """Draw tokens per second of training and of writing."""
    plots = []
    for key, title in (
        ("training_tokens_per_second", Words("Training speed", "학습 속도")),
        ("decoding_tokens_per_second", Words("Writing speed, one sequence", "쓰기 속도, 한 편")),
    ):
        bars = [(row["title"], row[key], row["name"] != "ngram") for row in rows]
        plots.append(bar_plot(key.split("_")[0], title, bars, unit="tokens per second", form=",.0f"))
    note = Words(
        "On this machine, in this implementation: an order of magnitude between two bars says something about the "
        "architecture, a tenth does not.",
        "이 기기, 이 구현에서의 값입니다.",
    )
    return Figure("speed", tuple(plots), table, note)


def _grid(rows: Sequence[Json], word: str, title: Words, trained: int) -> Plot:
    ks = list(dict.fromkeys(each["k"] for row in rows for each in row["answers"] if each["word"] == word))
    shares = [[each["right"] for each in row["answers"] if each["word"] == word] for row in rows]
    trace = {
        "type": "heatmap",
        "x": [str(k) for k in ks],
        "y": [plain(row["title"]) for row in rows],
        "z": shares,
        "text": [[f"{100 * share:.0f}" for share in row] for row in shares],
        "texttemplate": "%{text}",
        "zmin": 0,
        "zmax": 1,
        "colorscale": SCALE,
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hovertemplate": "%{y}, %{x}: %{text} %<extra></extra>",
    }
    unit = "tokens ago" if word == "recall" else "length"
    shape = layout(
        axis(unit, type="category", showgrid=False, tickangle=0),
        axis(autorange="reversed", type="category", showgrid=False, ticksuffix=" "),
        height=90 + 28 * len(rows),
        showlegend=False,
    ) | {"margin": {"l": 20, "r": 14, "t": 12, "b": 46}}
    inside = sum(k <= trained for k in ks)
    edge = {"type": "line", "x0": inside - 0.5, "x1": inside - 0.5, "yref": "paper", "y0": 0, "y1": 1}
    shape["shapes"] = [edge | {"line": {"color": "#D55E00", "width": 2, "dash": "dot"}}]
    return Plot(word, title, [trace], shape, wide=word == "recall")


def _intervals(row: Json, word: str, place: int) -> Json:
    answers = [each for each in row["answers"] if each["word"] == word]
    colour = COLOURS[place % 8]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plain(row["title"]),
        "x": [each["k"] for each in answers],
        "y": [each["right"] for each in answers],
        "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "symbol": MARKERS[place % 8], "size": 7},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [each["high"] - each["right"] for each in answers],
            "arrayminus": [each["right"] - each["low"] for each in answers],
            "thickness": 1,
            "width": 3,
        },
        "hovertemplate": "%{x} tokens ago: %{y:.0%}<extra>" + plain(row["title"]) + "</extra>",
    }


def _training_range(trained: int) -> Json:
    """Shade the distances that training shows."""
    return {
        "type": "rect",
        "x0": 0.8,
        "x1": trained * 1.2,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "fillcolor": "rgba(138,143,148,0.12)",
        "line": {"width": 0},
        "layer": "below",
    }
