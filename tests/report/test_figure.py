"""Figures are what Plotly itself calls valid, and statistics agree with scipy."""

from __future__ import annotations

import json
from pathlib import Path

import plotly.graph_objects as go
import pytest
from scipy.stats import binomtest

from hanok.report import find_artifacts, write_report
from hanok.report.compare import sign_test
from hanok.report.figure.curves import Panel, panel_plot, series
from hanok.report.figure.style import smooth, thin
from hanok.report.parts import Words, same
from hanok.report.section.grpo import rollouts
from hanok.report.show import duration, figure, megabytes, millions, moment

from .conftest import Maker


def test_plotly_accepts_every_figure(whole: Maker, tmp_path: Path) -> None:
    write_report(find_artifacts(whole.root), tmp_path, title="t", command="c")
    files = sorted((tmp_path / "figs").glob("*.json"))
    assert len(files) > 15
    for file in files:
        drawn = go.Figure(json.loads(file.read_text(encoding="utf-8")))
        assert len(drawn.data) > 0, file
    with pytest.raises(ValueError, match="Invalid property"):
        go.Figure({"data": [{"type": "scatter", "colour": "red"}]})


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (5, 5), (9, 2), (40, 12), (0, 200)])
def test_sign_test_is_the_binomial_test(won: int, lost: int) -> None:
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert sign_test(won, lost) == pytest.approx(expected, rel=1e-9)


def test_series_and_gaps() -> None:
    records = [{"step": 1, "a": 1.0}, {"step": 1, "b": 2.0}, {"step": 2, "a": float("nan")}, {"step": 3, "a": None}]
    assert series(records, "a") == ([1.0, 2.0, 3.0], [1.0, None, None])
    assert panel_plot(records, Panel("p", same("p"), {"missing": "m"})) is None
    plot = panel_plot(records, Panel("p", Words("p", "ㅍ"), {"a": "A<b>"}))
    assert plot is not None and plot.data[0]["name"] == "A&lt;b&gt;", "Plotly would read tags"


def test_moving_average_has_no_bias_at_the_start() -> None:
    assert smooth([2.0, 2.0, None, 2.0], 0.9) == pytest.approx([2.0] * 4)
    assert smooth([None, 1.0], 0.5)[0] is None


def test_thinning_keeps_both_ends() -> None:
    assert thin(5, 10) == [0, 1, 2, 3, 4]
    kept = thin(10_001, 100)
    assert kept[0] == 0 and kept[-1] == 10_000 and len(kept) == 100


def test_numbers_for_people() -> None:
    assert [figure(value) for value in (None, True, 12345, 0.123456, 2.0, float("nan"), 12345.6)] == [
        "–", "yes", "12,345", "0.1235", "2", "nan", "12,346",
    ]  # fmt: skip
    assert (millions(685_000), megabytes(1_234_567), duration(245)) == ("685 k", "1.23 MB", "4\u00a0min 05\u00a0s")
    assert moment("2026-01-02T03:04:05+09:00") == "2026-01-01 18:04 UTC" and moment("long ago") == "long ago"


def test_rollouts_are_shown_by_group() -> None:
    rows = [
        {
            "step": step,
            "prompt": [{"role": "user", "content": asked}],
            "completion": str(n),
            "reward": n,
            "advantage": n - 0.5,
        }
        for step, asked in ((10, "a"), (20, "b"), (30, "c"), (40, "d"))
        for n in (0, 1)
    ]
    shown = rollouts(rows)
    assert [example.prompt for example in shown] == ["b", "c", "d"]
    assert shown[0].answers == (("advantage -0.50", "0", False), ("advantage +0.50", "1", True))
