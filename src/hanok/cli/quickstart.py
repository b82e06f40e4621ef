"""`hanok quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import Out, Quiet, command_line
from hanok.core.errors import Interrupted


def quickstart(
    *,
    minutes: Annotated[float, cyclopts.Parameter(help="how long it may take, about")] = 5.0,
    depth: Annotated[int | None, cyclopts.Parameter(help="the model's size, instead of what fits")] = None,
    data: Annotated[
        list[str] | None,
        cyclopts.Parameter(help="your own text instead of Python's: txt, jsonl, parquet", consume_multiple=True),
    ] = None,
    output_dir: Out = Path("runs/quickstart"),
    port: Annotated[int, cyclopts.Parameter(help="for the server (the next free one if taken)")] = 8000,
    seed: int = 0,
    fresh: Annotated[bool, cyclopts.Parameter(negative=(), help="start over instead of going on")] = False,
    quiet: Quiet = False,
) -> None:
    """Run a model's whole life: data, pretraining, SFT, DPO, GRPO, a scaling law, int8, a server, a report.

    A second call goes on where the first one stopped. On a terminal it ends with the server up.
    """
    from hanok.recipes.quickstart import QuickstartConfig, live

    values = {"minutes": minutes, "depth": depth, "data": tuple(data or ()), "port": port, "seed": seed}
    config = QuickstartConfig.parse(values)
    try:
        live(config, output_dir, fresh=fresh, quiet=quiet)
    except (Interrupted, KeyboardInterrupt) as stopped:
        raise Interrupted(f"{stopped or 'stopped'}\nto go on: {command_line()}") from None
