"""`hanok scale run|fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import (
    ConfigFile,
    Json,
    Out,
    Overrides,
    Quiet,
    ResumeOption,
    Settings,
    emit,
    prepare,
    run_verb,
    split_data,
)
from hanok.core.errors import UsageError

app = cyclopts.App(name="scale", help="Run a ladder of small models, or fit a scaling law to measured losses.")


@app.command
def run(
    *overrides: Overrides,
    data: Annotated[
        list[str] | None,
        cyclopts.Parameter(help="prepared tokens, or text files (default: Python's own prose)", consume_multiple=True),
    ] = None,
    config: ConfigFile = None,
    output_dir: Out = Path("runs"),
    resume: ResumeOption = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train small runs, fit, predict a larger run before it is trained, and compare: `hanok scale run seconds=120`."""
    from hanok.scaling.stages import LADDER

    files, changes = split_data(data, overrides)
    settings = Settings(changes, config, output_dir, resume, quiet, json)
    run_verb(LADDER, {"tokens": prepare(files, settings)}, settings)


@app.command
def fit(
    table: Annotated[Path, cyclopts.Parameter(help="CSV with the columns params, tokens, loss")],
    *,
    law: str = "chinchilla",
    predict: Annotated[
        list[str] | None, cyclopts.Parameter(help="points to predict, as PARAMS:TOKENS", consume_multiple=True)
    ] = None,
    flops: Annotated[
        list[float] | None, cyclopts.Parameter(help="budgets to allocate best", consume_multiple=True)
    ] = None,
    samples: Annotated[int, cyclopts.Parameter(help="bootstrap refits")] = 200,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Fit a law to your own runs, with intervals: `hanok scale fit runs.csv --predict 7e9:140e9 --flops 1e21`."""
    from hanok.scaling.runs import Runs
    from hanok.scaling.stages import fit_runs

    targets = [read_point(text) for text in predict or []]
    runs = Runs.from_csv(table)
    emit(fit_runs(runs, law, samples=samples, seed=seed, targets=targets, flops=flops or []), as_json=json)


def read_point(text: str) -> tuple[float, float]:
    """Return params and tokens of `7e9:140e9`."""
    params, _, tokens = text.partition(":")
    try:
        return float(params), float(tokens)
    except ValueError:
        raise UsageError(f"--predict {text!r} must look like 7e9:140e9 (parameters:tokens)") from None
