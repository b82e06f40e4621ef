"""The first pass over a unit: read, take each document through the steps before the comparison, and sign it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from hanok.text.data.pipeline.build import build_steps
from hanok.text.data.pipeline.config import PipelineConfig
from hanok.text.data.pipeline.funnel import READ, Funnel
from hanok.text.data.pipeline.job import Job
from hanok.text.data.pipeline.page import Read, read_unit
from hanok.text.data.pipeline.part import Unit, part
from hanok.text.data.pipeline.plan import Plan
from hanok.text.data.pipeline.steps import Steps, ending, follow

PAGES, DROPPED, IDS = "pages.jsonl", "dropped.jsonl", "ids.jsonl"


def work(job: Job) -> Unit:
    """Return what scans one unit; its part holds pages, ids, signatures and what was dropped."""
    config = PipelineConfig.parse(job.config)
    plan, steps = Plan.load(Path(job.folder)), build_steps(config, Path(job.folder))

    def unit(number: int) -> dict[str, Any]:
        with part(job.parts, number) as (folder, result):
            result.update(scan(plan, number, config, steps, folder))
        return result

    return unit


def scan(plan: Plan, number: int, config: PipelineConfig, steps: Steps, folder: Path) -> dict[str, Any]:
    """Write a unit's part into `folder` and return what was counted; memory holds one document at a time."""
    funnel = Funnel(steps.names)
    kept = 0
    with ExitStack() as stack:
        pages, dropped, ids = (
            stack.enter_context((folder / name).open("w", encoding="utf-8")) for name in (PAGES, DROPPED, IDS)
        )
        signatures = [stack.enter_context((folder / f"{twins.name}.bin").open("wb")) for twins in steps.twins]
        for place, read in enumerate(read_unit(plan.units[number], config)):
            funnel.enter(READ, read.size)
            if read.page is None:
                funnel.drop(READ, read.reason, read.size)
                write_dropped(dropped, place, read, ending(READ, read.reason, read.size))
                continue
            if read.repaired:
                funnel.edit(READ, 0, {"surrogates": read.repaired})
            page, end = follow(read.page, steps.before, funnel)
            if page is None:
                write_dropped(dropped, place, read, end)
                continue
            kept += 1
            write_line(pages, {"place": place, **record(page.id, page.source, page.text, dict(page.metadata))})
            write_line(ids, page.id)
            for file, twins in zip(signatures, steps.twins, strict=True):
                file.write(twins.maker.signature(page.text).astype("<u8").tobytes())
    return {"kept": kept, "funnel": funnel.to_dict()}


def record(id: str, source: str, text: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return a document as its line in a file holds it."""
    line = {"id": id, "source": source, "text": text}
    return {**line, "metadata": metadata} if metadata else line


def write_dropped(file: TextIO, place: int, read: Read, end: dict[str, Any]) -> None:
    """Write the line of a dropped document."""
    write_line(file, {"place": place, "id": read.id, "source": read.source, **end})


def write_line(file: TextIO, value: Any) -> None:
    """Write one line of JSON."""
    file.write(json.dumps(value, ensure_ascii=False) + "\n")
