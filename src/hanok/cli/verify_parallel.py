"""`hanok verify-parallel`."""

from __future__ import annotations

from typing import Annotated

import cyclopts

from hanok.cli.common import Json, emit, table
from hanok.core.errors import HanokError, UsageError


def verify_parallel(
    model: Annotated[str, cyclopts.Parameter(help="model folder, preset, or a published model")],
    *overrides: Annotated[str, cyclopts.Parameter(help="a preset's dials as key=value, such as depth=8")],
    strategies: Annotated[
        list[str] | None, cyclopts.Parameter(help="which ones (default: all that suit)", consume_multiple=True)
    ] = None,
    processes: Annotated[int, cyclopts.Parameter(name=["--processes", "-n"], help="on this machine")] = 4,
    steps: int = 20,
    batch: int = 8,
    length: int = 32,
    json: Json = False,
) -> None:
    """Train with each parallel strategy and with one process, and compare the losses: `verify-parallel moe-tiny`.

    The model's shape is taken, with fresh weights in float32, random tokens, and processes on this machine's CPU.
    Exit code 1 where in any step a loss differs by more than 1e-5, or a gradient's norm by 1e-4 of it. A strategy that
    cannot divide this model is passed over, unless it was asked for by name.
    """
    from hanok.cli.inspect import read_config
    from hanok.train.parallel.verify import STRATEGIES, TOLERANCE, Trial, compare

    trial = Trial(read_config(model, overrides), steps=steps, rows=batch, length=length)
    found = compare(trial, strategies or STRATEGIES, processes)
    if json:
        emit({one.strategy: one.facts() for one in found}, as_json=True)
    else:
        headers = ("strategy", "layout", "gap of losses", "gap of gradient norms", "")
        table([one.row() for one in found], headers)
    refused = [one for one in found if one.error and strategies]
    if refused:
        raise UsageError(f"{refused[0].strategy}: {refused[0].error}")
    wrong = [one.strategy for one in found if not one.error and not one.agrees]
    if wrong:
        raise HanokError(
            f"{', '.join(wrong)}: losses or gradients differ from one process's (by more than {TOLERANCE:g})"
        )
