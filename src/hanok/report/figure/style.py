"""Colours, axes and traces that all figures share."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from hanok.report.parts import Json

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, GREY = "#CC79A7", "#56B4E9", "#F0E442", "#8A8F94"
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, YELLOW, GREY)
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "star", "pentagon", "cross")
MOST_POINTS = 700

Numbers = Sequence[float | None]


def plain(text: object) -> str:
    """Return a text that Plotly shows as it is: it reads a little HTML otherwise."""
    return html.escape(str(text), quote=False)


def thin(count: int, most: int = MOST_POINTS) -> list[int]:
    """Return at most `most` places out of `count`, evenly spaced, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def line(x: Numbers, y: Numbers, name: str, colour: str, **more: Any) -> Json:
    """Return a curve, thinned to what a screen can show."""
    keep = thin(len(x))
    style = {"color": colour, "width": more.pop("width", 2), "dash": more.pop("dash", "solid")}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": plain(name),
        "x": [x[i] for i in keep],
        "y": [y[i] for i in keep],
        "line": style,
        **more,
    }


def points(x: Sequence[Any], y: Numbers, name: str, colour: str, symbol: str = "circle", **more: Any) -> Json:
    """Return separate marks."""
    marker = {"color": colour, "symbol": symbol, "size": more.pop("size", 9)}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(name),
        "x": list(x),
        "y": list(y),
        "marker": marker,
    } | more


def band(x: Numbers, low: Numbers, high: Numbers, name: str, colour: str) -> list[Json]:
    """Return a shaded range as two traces that share one legend entry."""
    keep = thin(len(x))
    edge = {"type": "scatter", "mode": "lines", "line": {"width": 0, "color": colour}, "hoverinfo": "skip"}
    shared = {**edge, "legendgroup": plain(name), "x": [x[i] for i in keep]}
    fill = {"fill": "tonexty", "fillcolor": _faint(colour), "name": plain(name)}
    return [
        {**shared, "y": [low[i] for i in keep], "showlegend": False},
        {**shared, "y": [high[i] for i in keep], **fill},
    ]


def axis(title: str = "", **more: Any) -> Json:
    """Return an axis with a title."""
    return {"title": {"text": title, "standoff": 8}, "automargin": True, "zeroline": False, **more}


def layout(x: Json, y: Json, *, height: int = 320, **more: Any) -> Json:
    """Return a layout without colours: the page gives it those of its theme."""
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0}
    margin = {"l": 52, "r": 14, "t": 34 if more.get("showlegend", True) else 10, "b": 46}
    return {"xaxis": x, "yaxis": y, "height": height, "legend": legend, "margin": margin, "hovermode": "closest"} | more


def smooth(values: Numbers, keep: float) -> list[float | None]:
    """Return the exponential moving average, corrected for its start as Adam's is."""
    total, weight, out = 0.0, 0.0, []
    for value in values:
        if value is not None:
            total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        out.append(total / weight if weight else None)
    return out


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
