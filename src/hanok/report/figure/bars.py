"""Horizontal bars: a few figures beside each other, each with its number written at its end."""

from __future__ import annotations

from collections.abc import Sequence

from hanok.report.figure.style import BLUE, GREY, axis, layout, plain
from hanok.report.parts import Plot, Words

Bar = tuple[str, float, bool]  # (name, value, whether it is ours)


def bar_plot(name: str, title: Words, bars: Sequence[Bar], *, unit: str, form: str = ".3f", wide: bool = False) -> Plot:
    """Draw bars from top to bottom in the order given."""
    x = axis(
        unit,
        rangemode="tozero",
        tickformat=".0%" if form.endswith("%") else "",
        range=[0, 1.18 * max((value for _, value, _ in bars), default=1.0) or 1.0],
    )
    y = axis(autorange="reversed", showgrid=False, type="category", ticksuffix=" ")
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [value for _, value, _ in bars],
        "y": [plain(label) for label, *_ in bars],
        "text": [format(value, form) for _, value, _ in bars],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": [BLUE if ours else GREY for *_, ours in bars]},
        "hovertemplate": "%{y}: %{text}<extra></extra>",
    }
    height = 96 + 30 * len(bars)
    shape = layout(x, y, height=height, showlegend=False, bargap=0.35) | {
        "margin": {"l": 20, "r": 20, "t": 12, "b": 44}
    }
    return Plot(name, title, [trace], shape, wide=wide)
