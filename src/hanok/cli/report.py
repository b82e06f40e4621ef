"""`hanok report RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import Json, emit


def report(
    run: Annotated[Path, cyclopts.Parameter(help="folder of a run, or of one finished stage")],
    *,
    output_dir: Annotated[
        Path | None, cyclopts.Parameter(name=["--output-dir", "-o"], help="folder for the page (default: the run's)")
    ] = None,
    title: Annotated[str | None, cyclopts.Parameter(help="headline (default: the folder's name)")] = None,
    open: Annotated[bool, cyclopts.Parameter(negative=(), help="show it in the browser")] = False,
    json: Json = False,
) -> None:
    """Write one self-contained page about a run: `hanok report runs/quickstart --open`."""
    import shlex
    import webbrowser

    from hanok.core.artifact import MANIFEST
    from hanok.report import find_artifacts, write_report

    artifacts = find_artifacts(run)
    single = (run / MANIFEST).is_file()
    # An artifact vouches for every file in it, so a page about one goes beside it.
    out = output_dir or (run.resolve().parent / f"{run.resolve().name}-report" if single else run)
    page = write_report(
        artifacts, out, title=title or run.resolve().name, command=shlex.join(["hanok", "report", str(run)])
    )
    emit({"report": str(page), "stages": ", ".join(artifacts), "bytes": page.stat().st_size}, as_json=json)
    if open:
        webbrowser.open(page.resolve().as_uri())
