"""The stage `clean`: documents in, clean documents out, with a funnel in which every dropped one is accounted for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hanok.core.artifact import atomic_write
from hanok.core.durable import sweep
from hanok.core.errors import Interrupted, UsageError
from hanok.core.log import Log
from hanok.core.stage import CHECKPOINTS, Stage
from hanok.text.data.pipeline.build import build_steps, prepare_steps
from hanok.text.data.pipeline.config import PipelineConfig
from hanok.text.data.pipeline.copies import find_copies
from hanok.text.data.pipeline.engine import Engine
from hanok.text.data.pipeline.find import find_sources
from hanok.text.data.pipeline.funnel import READ, Funnel
from hanok.text.data.pipeline.job import Job
from hanok.text.data.pipeline.keep import DOCUMENTS
from hanok.text.data.pipeline.lock import held
from hanok.text.data.pipeline.part import is_done, part_path, result_of
from hanok.text.data.pipeline.plan import PLAN, Plan
from hanok.text.data.pipeline.scan import DROPPED

FUNNEL = "funnel.json"


def clean_stage(engine: Engine) -> Stage:
    """Return the stage on an engine; the artifact does not depend on which."""
    return Stage(name="clean", kind="documents", config=PipelineConfig, run=partial(run_clean, engine))


def run_clean(engine: Engine, config: PipelineConfig, inputs: dict[str, Path], out: Path, log: Log) -> dict[str, Any]:
    """Write `documents/*.jsonl`, `dropped.jsonl` and `funnel.json`; return the sums.

    A run that was killed goes on with the units that have no result yet. Memory holds what the comparison of documents
    holds, and one document of each worker.
    """
    if config.source and config.pin().source != config.source:
        raise UsageError("the input files have changed since this configuration was made; run it without 'source'")
    if not (out / FUNNEL).is_file():
        work = (out / CHECKPOINTS).resolve()
        with held(work / "lock"):
            sweep(out)
            plan = load_plan(config, work, log)
            prepare_steps(config, work, out)
            steps, units = build_steps(config, work), len(plan.units)
            run_units(engine, Job("scan", config.to_dict(), str(work)), range(units), log)
            log.progress("comparing documents")
            find_copies(work, units, steps.twins)
            run_units(engine, Job("keep", config.to_dict(), str(work)), range(units), log)
            _collect(out, units, steps.names)
    data = json.loads((out / FUNNEL).read_text(encoding="utf-8"))
    return summary(data)


def load_plan(config: PipelineConfig, work: Path, log: Log) -> Plan:
    """Return the plan of an interrupted run, or make one."""
    if (work / PLAN).is_file():
        return Plan.load(work)
    log.progress("looking through the sources")
    plan = Plan.make(find_sources(config.paths), size=config.unit_bytes)
    plan.save(work)
    return plan


def run_units(engine: Engine, job: Job, units: Sequence[int], log: Log) -> None:
    """Do the units that have no result yet."""
    todo = [unit for unit in units if not is_done(job.parts, unit)]
    done = len(units) - len(todo)
    try:
        for unit in engine.run(job, todo):
            done += 1
            log.progress(f"{job.task}: {done} of {len(units)} units (last: {unit})")
    except KeyboardInterrupt:
        raise Interrupted(f"stopped in {job.task} after {done} of {len(units)} units, which are kept") from None


def summary(data: dict[str, Any]) -> dict[str, Any]:
    """Return the sums of a funnel, as the artifact records them."""
    funnel = Funnel([step for step in data if step != READ])
    funnel.add(data)
    first = funnel.counts[READ]
    documents, size = funnel.left
    return {
        "documents_read": first.documents,
        "bytes_read": first.bytes,
        "documents": documents,
        "bytes": size,
        "dropped": first.documents - documents,
        "funnel": data,
    }


def _collect(out: Path, units: int, names: Sequence[str]) -> None:
    """Join the results of the units; `funnel.json` comes last and says that all is there."""
    work = out / CHECKPOINTS
    funnel = Funnel(names)
    for unit in range(units):
        for task in ("scan", "keep"):
            funnel.add(result_of(work / task, unit)["funnel"])
    funnel.check()
    (out / "documents").mkdir(exist_ok=True)
    with (out / DROPPED).open("wb") as joined:
        for unit in range(units):
            with (part_path(work / "keep", unit) / DROPPED).open("rb") as dropped:
                shutil.copyfileobj(dropped, joined)
    for unit in range(units):
        part, file = part_path(work / "keep", unit) / DOCUMENTS, out / "documents" / f"{unit:06d}.jsonl"
        if part.exists():
            part.rename(file)
    atomic_write(out / FUNNEL, json.dumps(funnel.to_dict(), indent=2, ensure_ascii=False) + "\n")
