"""`hanok lineage`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import Json, Out, Quiet, command_line, emit
from hanok.core.errors import Interrupted


def lineage(
    *,
    minutes: Annotated[float, cyclopts.Parameter(help="how long it may take, about")] = 25.0,
    only: Annotated[str | None, cyclopts.Parameter(help="a part of the field, as lstm,gpt,mamba")] = None,
    budget: Annotated[str, cyclopts.Parameter(help="what is equal: tokens read, or seconds of training")] = "tokens",
    data: Annotated[
        list[str] | None,
        cyclopts.Parameter(help="your own text instead of Python's: txt, jsonl, parquet", consume_multiple=True),
    ] = None,
    output_dir: Out = Path("runs/lineage"),
    seed: int = 0,
    fresh: Annotated[bool, cyclopts.Parameter(negative=(), help="start over instead of going on")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Race every kind of language model from n-grams to hybrids on one text: `hanok lineage --minutes 25`.

    A second call goes on where the first one stopped. The page is lineage.html in the output folder.
    """
    from hanok.recipes.lineage.page import write_page
    from hanok.recipes.lineage.race import LineageConfig, Race

    names = [name.strip() for name in (only or "").split(",") if name.strip()]
    values = {"minutes": minutes, "only": names, "budget": budget, "data": tuple(data or ()), "seed": seed}
    config = LineageConfig.parse(values)
    try:
        results = Race(config, output_dir, fresh=fresh, quiet=quiet).run()
    except (Interrupted, KeyboardInterrupt) as stopped:
        raise Interrupted(f"{stopped or 'stopped'}\nto go on: {command_line()}") from None
    page = write_page(results, output_dir)
    if json:
        emit(
            {
                "page": str(page),
                **{k: v for k, v in results.items() if k != "rows"},
                "rows": [{k: v for k, v in row.items() if k not in ("bits", "bytes")} for row in results["rows"]],
            },
            as_json=True,
        )
        return
    print((output_dir / "table.md").read_text(encoding="utf-8"))
    print(f"page: {page}")
