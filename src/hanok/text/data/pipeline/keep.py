"""The second pass over a unit: drop the copies, take the rest through the last steps, write what is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hanok.text.data.document import Page
from hanok.text.data.pipeline.build import build_steps
from hanok.text.data.pipeline.config import PipelineConfig
from hanok.text.data.pipeline.copies import copies_file
from hanok.text.data.pipeline.funnel import Funnel
from hanok.text.data.pipeline.job import Job
from hanok.text.data.pipeline.part import Unit, part, part_path
from hanok.text.data.pipeline.scan import DROPPED, PAGES, record, write_line
from hanok.text.data.pipeline.steps import Steps, ending, follow, size_of

DOCUMENTS = "documents.jsonl"


def work(job: Job) -> Unit:
    """Return what finishes one unit; its part holds the documents and all that was dropped, in order."""
    config, base = PipelineConfig.parse(job.config), Path(job.folder)
    steps = build_steps(config, base)

    def unit(number: int) -> dict[str, Any]:
        with part(job.parts, number) as (folder, result):
            copies = json.loads(copies_file(base, number).read_text(encoding="utf-8"))
            result.update(keep(part_path(base / "scan", number), copies, steps, folder))
        return result

    return unit


def keep(scanned: Path, copies: dict[str, list[str]], steps: Steps, folder: Path) -> dict[str, Any]:
    """Write a unit's documents and its dropped ones into `folder` and return what was counted."""
    funnel = Funnel(steps.names)
    compared = [twins.name for twins in steps.twins]
    early = _lines(scanned / DROPPED)
    waiting = next(early, None)
    with (
        (folder / DOCUMENTS).open("w", encoding="utf-8") as documents,
        (folder / DROPPED).open("w", encoding="utf-8") as dropped,
    ):
        for number, line in enumerate(_lines(scanned / PAGES)):
            while waiting is not None and waiting["place"] < line["place"]:
                write_line(dropped, _without_place(waiting))
                waiting = next(early, None)
            page = Page(line["id"], line["text"], line["source"], line.get("metadata", {}))
            size = size_of(page.text)
            copy = copies.get(str(number))
            for name in compared[: compared.index(copy[0]) + 1] if copy else compared:
                funnel.enter(name, size)
            row = {"id": page.id, "source": page.source}
            if copy:
                funnel.drop(copy[0], copy[1], size)
                write_line(dropped, {**row, **ending(copy[0], copy[1], size, copy[2])})
                continue
            after, end = follow(page, steps.after, funnel)
            if after is None:
                write_line(dropped, {**row, **end})
            else:
                write_line(documents, record(after.id, after.source, after.text, dict(after.metadata)))
        while waiting is not None:
            write_line(dropped, _without_place(waiting))
            waiting = next(early, None)
    return {"funnel": funnel.to_dict()}


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _without_place(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != "place"}
