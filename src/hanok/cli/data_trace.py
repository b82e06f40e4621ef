"""`hanok data trace`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import Json, emit, table


def trace(
    run: Annotated[
        Path, cyclopts.Parameter(help="folder of a pretrain run, finished or not, or one of its checkpoints")
    ],
    *,
    batch: Annotated[int | None, cyclopts.Parameter(name=["--batch", "-b"], help="step whose batch is shown")] = None,
    document: Annotated[
        str | None, cyclopts.Parameter(name=["--document", "-d"], help="id of a document, or SOURCE:NUMBER")
    ] = None,
    data: Annotated[Path | None, cyclopts.Parameter(help="where the run's prepared data is now, if it moved")] = None,
    save: Annotated[Path | None, cyclopts.Parameter(help="write the batch, bit for bit, to a safetensors file")] = None,
    verify: Annotated[bool, cyclopts.Parameter(negative=(), help="check the sha256 of all the data first")] = False,
    json: Json = False,
) -> None:
    """Say which documents were in a batch, or which batches saw a document: `hanok data trace RUN --batch 100`.

    A checkpoint without `--batch` shows the batch that a resumed run would read next.
    """
    from hanok.core.errors import UsageError
    from hanok.train.hook.data_plan import open_history, save_batch

    if batch is not None and document is not None:
        raise UsageError("give --batch or --document, not both")
    if save is not None and document is not None:
        raise UsageError("--save writes a batch: give --batch with it")
    told = open_history(run, data=data, verify=verify)
    if document is None:
        number = told.next if batch is None else batch
        found = told.history.batch(number)
        saved = {} if save is None else {"saved": str(save_batch(told.history.rebuild(number), save))}
        head = {"batch": number, "rows": told.history.per_step, "seen": number <= told.done, **saved}
    else:
        found = told.history.document(document, told.steps)
        seen = sum(one.batch <= told.done for one in found)
        head = {"document": document, "seen": seen, "ahead": len(found) - seen, "steps": told.done}
    if json:
        emit({**head, "found": [asdict(one) for one in found]}, as_json=True)
        return
    emit(head, as_json=False)
    rows = [
        (one.batch, one.row, one.source, one.id, f"{one.start}:{one.stop}", one.origin.get("url", "")) for one in found
    ]
    table(rows, ["batch", "row", "source", "document", "tokens", "url"])
