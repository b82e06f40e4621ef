"""`hanok serve MODEL`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import ConfigFile, Overrides


def serve(
    model: Annotated[str, cyclopts.Parameter(help="model folder or hub id")],
    *overrides: Overrides,
    host: str | None = None,
    port: int | None = None,
    api_key: Annotated[str | None, cyclopts.Parameter(env_var="HANOK_API_KEY", help="ask clients for this key")] = None,
    report: Annotated[Path | None, cyclopts.Parameter(help="a report.html to show at /report")] = None,
    config: ConfigFile = None,
) -> None:
    """Serve the OpenAI API and a chat page: `hanok serve MODEL --port 8000`."""
    from hanok.core.config import read_yaml, set_override
    from hanok.core.errors import require

    require("fastapi", extra="serve")
    from hanok.serve import ServeConfig
    from hanok.serve import serve as run

    settings = read_yaml(config) if config is not None else {}
    for override in overrides:
        set_override(settings, override)
    flags = {"host": host, "port": port, "api_key": api_key, "report": report}
    settings |= {name: value for name, value in flags.items() if value is not None}
    settings.setdefault("model_name", Path(model).resolve().name if Path(model).exists() else model)
    checked = ServeConfig.parse(settings)
    run(model, checked)
