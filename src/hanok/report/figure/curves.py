"""Curves of a training run out of its metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hanok.report.figure.style import BLUE, COLOURS, ORANGE, axis, band, layout, line, points, smooth
from hanok.report.parts import Figure, Json, Plot, Table, Words
from hanok.report.run import number

KEEP = 0.95  # of the moving average
ENOUGH = 30  # points for one


@dataclass(frozen=True)
class Panel:
    """A small chart of some metrics over the steps: metric -> name in the legend."""

    name: str
    title: Words
    series: Mapping[str, str]
    unit: str = ""
    log: bool = False
    spread: tuple[str, str] | None = None  # (metric, its standard deviation), drawn as a band
    smooth: bool = False  # noisy from step to step: a moving average over it


def series(records: Sequence[Json], metric: str) -> tuple[list[float], list[float | None]]:
    """Return the steps at which a metric was written, and its values; what is no finite number is a gap."""
    rows = [(float(record["step"]), record[metric]) for record in records if metric in record and "step" in record]
    return [step for step, _ in rows], [number(value) for _, value in rows]


def loss_plot(records: Sequence[Json], metric: str, name: str, title: Words) -> Plot | None:
    """Draw a loss as it was (faint) and smoothed, with the validation loss where it was measured."""
    x, y = series(records, metric)
    if not any(value is not None for value in y):
        return None
    data = [
        line(x, y, "each step", BLUE, width=1, opacity=0.3),
        line(x, smooth(y, KEEP), f"moving average ({KEEP:g})", BLUE),
    ]
    valid_x, valid_y = series(records, "val/loss")
    if valid_x:
        data.append({**points(valid_x, valid_y, "validation", ORANGE), "mode": "lines+markers"})
    shape = layout(axis("step"), axis("loss (nats per token)"), height=360, hovermode="x unified")
    return Plot(name, title, data, shape, wide=True, log=True)


def panel_plot(records: Sequence[Json], panel: Panel) -> Plot | None:
    """Draw a panel, or nothing where the run wrote none of its metrics."""
    data: list[Json] = []
    for colour, (metric, name) in zip(COLOURS, panel.series.items(), strict=False):
        x, y = series(records, metric)
        if panel.spread and panel.spread[0] == metric:
            data += _spread(records, panel.spread, colour)
        if any(value is not None for value in y):
            data += _line(x, y, name, colour, smoothed=panel.smooth and len(y) >= ENOUGH)
    if not data:
        return None
    y_axis = axis(panel.unit, **({"type": "log", "dtick": "D2", "tickformat": "~g"} if panel.log else {}))
    return Plot(panel.name, panel.title, data, layout(axis("step"), y_axis, height=250, showlegend=len(data) > 1))


def curves(
    name: str, records: Sequence[Json], plots: Sequence[Plot | None], metrics: Sequence[str], note: Words | None = None
) -> Figure | None:
    """Gather the plots that exist, and their numbers step by step."""
    drawn = [plot for plot in plots if plot is not None]
    if not drawn:
        return None
    if sum(not plot.wide for plot in drawn) % 2:  # leave no hole beside the last one
        drawn[-1] = replace(drawn[-1], wide=True)
    columns = [metric for metric in metrics if any(metric in record for record in records)]
    merged: dict[float, Json] = {}
    for record in records:
        merged.setdefault(record.get("step", 0), {}).update(record)
    rows = [[step, *(record.get(column) for column in columns)] for step, record in sorted(merged.items())]
    return Figure(name, tuple(drawn), Table(("step", *columns), rows), note)


def _line(x: list[float], y: list[float | None], name: str, colour: str, *, smoothed: bool) -> list[Json]:
    if not smoothed:
        return [line(x, y, name, colour)]
    faint = line(x, y, name, colour, width=1, opacity=0.35, showlegend=False)
    return [faint, line(x, smooth(y, 0.9), f"{name}, averaged", colour)]


def _spread(records: Sequence[Json], names: tuple[str, str], colour: str) -> list[Json]:
    both = [record for record in records if number(record.get(names[0])) and number(record.get(names[1])) is not None]
    x = [float(record["step"]) for record in both]
    low = [record[names[0]] - record[names[1]] for record in both]
    high = [record[names[0]] + record[names[1]] for record in both]
    return band(x, low, high, "± group spread", colour) if both else []
