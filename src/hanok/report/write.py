"""Writes the report: report.html, report.json and the figures, each file whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hanok.core.artifact import Artifact, atomic_write
from hanok.core.errors import UsageError, require
from hanok.report.overview import cards, header, results
from hanok.report.page import Page, render
from hanok.report.parts import Section
from hanok.report.run import Run
from hanok.report.section import sections

FILE = "report.html"


def write_report(
    artifacts: Mapping[str, Artifact], out: Path, *, title: str, command: str, seconds: float | None = None
) -> Path:
    """Write the report on a run's artifacts (step name -> artifact) into the folder `out`; return the page's path.

    The same artifacts give the same bytes. `command` is what made the run, `seconds` its wall clock where known.
    """
    if not artifacts:
        raise UsageError("there is nothing to report: no artifact was given")
    plotly = require("plotly.offline", extra="report")
    run = Run(dict(artifacts), out)
    top, stages = results(run), sections(run)
    parts = [*([top] if top else []), *stages]
    page = Page(title, command, header(run, seconds), cards(run), parts)
    document = render(page, plotly.get_plotlyjs())
    for section in parts:
        for figure in section.figures:
            for plot in figure.plots:
                drawing = json.dumps(plot.to_json(), ensure_ascii=False)
                atomic_write(out / "figs" / f"{section.file(plot.name)}.json", drawing + "\n")
            atomic_write(out / "figs" / f"{section.file(figure.name)}.csv", figure.table.csv())
    atomic_write(out / "report.json", json.dumps(record(run, page), indent=2, ensure_ascii=False) + "\n")
    atomic_write(out / FILE, document)
    return out / FILE


def record(run: Run, page: Page) -> dict[str, Any]:
    """Return what the page says, for programs."""
    return {
        "title": page.title,
        "command": page.command,
        "header": {name.en: text for name, text in page.header},
        "summary": {name.en: text for name, text in page.cards},
        "verdicts": [{"tone": remark.tone, "text": remark.text.en} for remark in page.remarks],
        "stages": {
            step: {
                "folder": run.where(artifact),
                "kind": artifact.kind,
                "hash": artifact.digest,
                "made": artifact.created,
                "inputs": {name: run.maker(digest) or digest for name, digest in artifact.inputs.items()},
                "metrics": artifact.metrics,
            }
            for step, artifact in run.artifacts.items()
        },
        "sections": {section.id: _figures(section) for section in page.sections},
    }


def _figures(section: Section) -> dict[str, Any]:
    return {
        figure.name: {
            "table": f"figs/{section.file(figure.name)}.csv",
            "plots": [f"figs/{section.file(plot.name)}.json" for plot in figure.plots],
        }
        for figure in section.figures
    }
