"""`hanok eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import ConfigFile, Json, ModelDir, Out, Overrides, Quiet, Settings, run_verb
from hanok.core.errors import UsageError


def eval(
    model: ModelDir,
    *overrides: Overrides,
    tasks: Annotated[
        Path | None, cyclopts.Parameter(name=["--tasks", "-t"], help="task items (held_out.jsonl)")
    ] = None,
    text: Annotated[Path | None, cyclopts.Parameter(help="held-out text: a file, or a prepared data folder")] = None,
    fail_under: Annotated[
        list[str] | None, cyclopts.Parameter(help="bars such as copy=0.9 bits_per_byte=2.5", consume_multiple=True)
    ] = None,
    config: ConfigFile = None,
    output_dir: Out = Path("runs"),
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model: `hanok eval MODEL -t held_out.jsonl --text corpus.txt --fail-under copy=0.9`."""
    from hanok.cli.common import model_path
    from hanok.eval.stages import check_bars, stage_for

    bars = dict(map(read_bar, fail_under or []))
    inputs = {"model": model_path(model), "tasks": tasks, "tokens": text}
    given = {name: path for name, path in inputs.items() if path is not None}
    artifact = run_verb(stage_for(given), given, Settings(overrides, config, output_dir, "auto", quiet, json))
    if not json:
        print("\n" + (artifact.path / "table.md").read_text(encoding="utf-8"))
    check_bars(artifact.metrics, bars)


def read_bar(text: str) -> tuple[str, float]:
    """Return the figure and bar of `name=value`."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise UsageError(f"--fail-under {text!r} must look like copy=0.9") from None
