"""The picture of a comparison of position schemes: one self-contained page beside its folder."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from hanok.core.artifact import Artifact, atomic_write
from hanok.core.errors import require
from hanok.report.figure.positions import gains_figure, positions_figure
from hanok.report.page import Page, render
from hanok.report.parts import Section, Words


def write_page(artifact: Artifact) -> Path:
    """Write `<folder>.html` from results.json, and return its path."""
    plotly = require("plotly.offline", extra="report")
    results = json.loads((artifact.path / "results.json").read_text(encoding="utf-8"))
    what = Words(
        f"Each scheme was trained on rows of {results['length']} tokens, for {results['steps']} steps on the same "
        "text from the same seed, and measured on held-out text up to positions it never saw.",
        f"모든 방식을 {results['length']}토큰 길이의 같은 글로, 같은 시드로 {results['steps']}단계 학습한 뒤, "
        "학습에서 본 적 없는 위치까지 측정했습니다.",
    )
    section = Section(
        "positions",
        Words("Positions beyond the training length", "학습 길이를 넘어선 위치"),
        what,
        figures=[positions_figure(results), gains_figure(results)],
    )
    header = [
        (Words("training tokens of each", "방식마다 학습한 토큰"), f"{results['trained_tokens']:,}"),
        (Words("measured windows", "측정한 구간"), f"{results['measured_windows']:,}"),
    ]
    command = "hanok compare positions --config " + shlex.quote(str(artifact.path / "config.yaml"))
    document = render(Page("hanok compare positions", command, header, [], [section]), plotly.get_plotlyjs())
    page = artifact.path.with_name(artifact.path.name + ".html")
    atomic_write(page, document)
    return page
