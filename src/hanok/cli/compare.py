"""`hanok compare MODEL MODEL ...`, `hanok compare positions|widths`; the first word says what is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts

from hanok.cli.common import (
    ConfigFile,
    Json,
    Out,
    Overrides,
    Quiet,
    ResumeOption,
    Settings,
    data_config,
    prepare,
    run_verb,
    show,
    split_data,
)

if TYPE_CHECKING:
    from hanok.core.artifact import Artifact

app = cyclopts.App(name="compare", help="Measure parts or models side by side.")


@app.default
def models(
    *names: Annotated[str, cyclopts.Parameter(help="model folders, presets, published models")],
    lengths: Annotated[
        list[int] | None, cyclopts.Parameter(help="sequence lengths to cost (2048, 32768)", consume_multiple=True)
    ] = None,
    dtype: Annotated[str, cyclopts.Parameter(help="of weights and caches")] = "bf16",
    plot: Annotated[bool, cyclopts.Parameter(negative=(), help="write a page with the picture")] = False,
    output_dir: Out = Path("runs"),
    json: Json = False,
) -> None:
    """Put models side by side: parameters, FLOPs, weights and cache, counted by structure."""
    import json as library

    from hanok.cli.common import table
    from hanok.cli.inspect import read_config
    from hanok.core.errors import UsageError, suggest
    from hanok.model.compare import side_by_side
    from hanok.model.size import BYTES
    from hanok.report.models import write_models_page

    if len(names) < 2:
        raise UsageError("compare needs two models or more: hanok compare llama-3-8b deepseek-v2-lite")
    if dtype not in BYTES:
        raise UsageError(f"unknown dtype {dtype!r}{suggest(dtype, BYTES)} (known: {', '.join(BYTES)})")
    if any(length < 1 for length in lengths or ()):
        raise UsageError("lengths are numbers of tokens, 1 or more")
    configs = {name: read_config(name, ()) for name in names}
    rows = side_by_side(configs, lengths or [2048, 32768], dtype)
    page = write_models_page(configs, rows, output_dir / "compare.html", dtype) if plot else None
    if json:
        print(library.dumps(rows, ensure_ascii=False))
        return
    columns = [
        [key, *(f"{row[key]:,.4g}" if isinstance(row[key], float) else show(row[key]) for row in rows)]
        for key in rows[0]
    ]
    table(columns[1:], columns[0])
    if page:
        print(f"\npicture: {page}")


@app.command
def positions(
    *overrides: Overrides,
    positions: Annotated[str | None, cyclopts.Parameter(help="schemes, as rope,alibi,none,...")] = None,
    scalings: Annotated[
        str | None, cyclopts.Parameter(help="of RoPE after training, as linear,ntk,yarn,window")
    ] = None,
    length: Annotated[int | None, cyclopts.Parameter(help="of the rows trained on, in tokens (64)")] = None,
    upto: Annotated[int | None, cyclopts.Parameter(help="longest position measured (512)")] = None,
    minutes: Annotated[float | None, cyclopts.Parameter(help="for all schemes together (2)")] = None,
    data: Annotated[
        list[str] | None,
        cyclopts.Parameter(help="prepared tokens, or text files (default: Python's own prose)", consume_multiple=True),
    ] = None,
    plot: Annotated[bool, cyclopts.Parameter(negative=(), help="write a page with the picture beside it")] = False,
    config: ConfigFile = None,
    output_dir: Out = Path("runs"),
    resume: ResumeOption = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train one model per position scheme on short rows and measure it far beyond: `hanok compare positions --plot`."""
    from hanok.core.log import Log
    from hanok.core.stage import run_stage
    from hanok.recipes.positions import POSITIONS_STAGE
    from hanok.recipes.positions_page import write_page
    from hanok.text.stages import DATA

    files, changes = split_data(data, overrides)
    given = {"length": length, "upto": upto, "minutes": minutes}
    changes = _changes(given, changes, {"positions": positions, "scalings": scalings})
    settings = Settings(changes, config, output_dir, resume, quiet, json)
    chosen = POSITIONS_STAGE.config.from_yaml(config, *changes)  # a wrong setting is said before data is prepared
    if files:
        tokens = prepare(files, settings)
    else:  # prose alone, in passages long enough to look back over
        prose = data_config([], ["tasks=[]", "passage_chars=4000"], None)
        tokens = run_stage(DATA, prose, {}, output_dir, log=Log(quiet=quiet)).path
    artifact = run_verb(POSITIONS_STAGE, {"tokens": tokens}, settings, config=chosen)
    _show(artifact, write_page if plot else None, quiet=json)


@app.command
def widths(
    *overrides: Overrides,
    widths: Annotated[str | None, cyclopts.Parameter(help="of the model, as 32,64,128,256")] = None,
    rates: Annotated[str | None, cyclopts.Parameter(help="learning rates, rising, as 1e-3,4e-3,1.6e-2")] = None,
    optimizer: Annotated[str | None, cyclopts.Parameter(help="adamw, muon, lion, ...")] = None,
    steps: Annotated[int | None, cyclopts.Parameter(help="of each run (200)")] = None,
    data: Annotated[
        list[str] | None,
        cyclopts.Parameter(help="prepared tokens, or text files (default: Python's own prose)", consume_multiple=True),
    ] = None,
    plot: Annotated[bool, cyclopts.Parameter(negative=(), help="write a page with the picture beside it")] = False,
    config: ConfigFile = None,
    output_dir: Out = Path("runs"),
    resume: ResumeOption = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train several widths at several rates, with muP and without, and see whether the best rate stays put."""
    from hanok.recipes.widths import WIDTHS_STAGE
    from hanok.recipes.widths_page import write_page

    files, changes = split_data(data, overrides)
    changes = _changes({"optimizer": optimizer, "steps": steps}, changes, {"widths": widths, "rates": rates})
    settings = Settings(changes, config, output_dir, resume, quiet, json)
    chosen = WIDTHS_STAGE.config.from_yaml(config, *changes)  # a wrong setting is said before data is prepared
    artifact = run_verb(WIDTHS_STAGE, {"tokens": prepare(files, settings)}, settings, config=chosen)
    _show(artifact, write_page if plot else None, quiet=json)


def _changes(given: Mapping[str, object], changes: Sequence[str], lists: Mapping[str, str | None]) -> list[str]:
    """Return options as settings: those that bare settings may change, the bare ones, and options that are lists."""
    first = [f"{name}={value}" for name, value in given.items() if value is not None]
    return [*first, *changes, *(f"{name}=[{value}]" for name, value in lists.items() if value is not None)]


def _show(artifact: Artifact, write_page: Callable[[Artifact], Path] | None, *, quiet: bool) -> None:
    """Print the table that a stage wrote, and write its page if that was asked for."""
    if not quiet:
        print("\n" + (artifact.path / "table.md").read_text(encoding="utf-8"))
    if write_page is not None:
        page = write_page(artifact)
        if not quiet:
            print(f"picture: {page}")
