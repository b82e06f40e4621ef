"""The picture of a sweep over widths and rates: one self-contained page beside its folder."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from hanok.core.artifact import Artifact, atomic_write
from hanok.core.errors import require
from hanok.report.figure.widths import widths_figure
from hanok.report.page import Page, render
from hanok.report.parts import Section, Words, same


def write_page(artifact: Artifact) -> Path:
    """Write `<folder>.html` from results.json, and return its path."""
    plotly = require("plotly.offline", extra="report")
    results = json.loads((artifact.path / "results.json").read_text(encoding="utf-8"))
    what = Words(
        f"The same model at several widths, each trained for {results['steps']} steps at several learning rates on the "
        "same text. With muP, parameters start and move at rates that depend on how much wider they are than those of "
        "the smallest model.",
        f"같은 모델을 여러 폭에서, 여러 학습률로, 같은 글로 {results['steps']}단계씩 학습했습니다. "
        "muP에서는 매개변수의 초깃값과 학습률이 가장 작은 모델보다 얼마나 넓은지에 따라 정해집니다.",
    )
    section = Section(
        "widths",
        Words("Does the best learning rate stay put?", "최적 학습률은 그대로인가?"),
        what,
        facts=[(Words("result", "결과"), verdict) for verdict in results["verdicts"]],
        figures=[widths_figure(results)],
    )
    header = [
        (Words("training tokens of each run", "실행마다 학습한 토큰"), f"{results['trained_tokens']:,}"),
        (Words("runs averaged per point", "점마다 평균한 실행"), f"{results['seeds']}"),
        (same("optimizer"), results["optimizer"]),
    ]
    command = "hanok compare widths --config " + shlex.quote(str(artifact.path / "config.yaml"))
    document = render(Page("hanok compare widths", command, header, [], [section]), plotly.get_plotlyjs())
    page = artifact.path.with_name(artifact.path.name + ".html")
    atomic_write(page, document)
    return page
