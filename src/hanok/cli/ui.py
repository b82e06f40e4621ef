"""`hanok ui [RUNS...]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts


def ui(
    *runs: Annotated[Path, cyclopts.Parameter(help="folders of runs, or folders with runs in them (default: runs)")],
    host: str = "127.0.0.1",
    port: Annotated[int, cyclopts.Parameter(help="first port to try; 0 takes any free one")] = 7575,
    open: Annotated[
        bool, cyclopts.Parameter(negative=(), help="allow an address that other machines can reach")
    ] = False,
) -> None:
    """Watch runs in a browser while they go on: `hanok ui runs/quickstart`."""
    from hanok.core.errors import UsageError, require

    require("starlette", extra="serve")
    require("uvicorn", extra="serve")
    from hanok.serve.board import show

    if not 0 <= port <= 65535:
        raise UsageError(f"port {port}: a number from 0 to 65535")
    show(runs or (Path("runs"),), host=host, port=port, open=open)
