"""A job on many processes that a launcher has started: one stage run by all of them for one result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from hanok.core.artifact import Artifact
from hanok.core.config import Config
from hanok.core.device import pick
from hanok.core.errors import HanokError, UsageError
from hanok.core.log import Log
from hanok.core.stage import CHECKPOINTS, Resume, Stage, run_stage
from hanok.train.config import TrainingConfig
from hanok.train.parallel.config import ParallelConfig, place
from hanok.train.parallel.mesh import gather_json, process_group
from hanok.train.parallel.supervise import ENDED, FOLDER, HOPELESS, note

DAY = 86400.0  # collectives may wait for the data to be prepared; the watchdog finds out who is lost


@contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes that a launcher has started, inside the `with` block; nothing happens where it has not.

    After an error the group is left as it is: taking it down would wait for ranks that wait for this one.
    """
    where = place()
    if where.size == 1:
        yield
        return
    device = pick()
    if device != "cpu" and where.local >= torch.cuda.device_count():
        raise UsageError(f"{where.local + 1} processes were started on a machine of {torch.cuda.device_count()} GPUs")
    group = process_group(where, device=device, seconds=DAY)
    group.__enter__()
    try:
        yield
    except SystemExit as left:
        if left.code:
            raise
    except HanokError as error:
        if error.exit_code in HOPELESS:
            note(ENDED, error.exit_code)
        raise
    group.__exit__(None, None, None)


def first(work: Callable[[], Path]) -> Path:
    """Let the first process do some work and tell the others the path that it returns."""
    if place().size == 1:
        return work()
    rank = dist.get_rank()
    told: Any = None
    try:
        if rank == 0:
            told = str(work())
    finally:
        told = gather_json(told)[0]
    if told is None:
        raise SystemExit(1)  # the first process says why
    return Path(told)


def run_together(
    stage: Stage, config: Config, inputs: Mapping[str, Path], root: Path, *, log: Log, resume: Resume = "auto"
) -> Artifact | None:
    """Run a stage on all processes; the first one makes the artifact and returns it, the others return None.

    Without a layout in the configuration, every process is a replica.
    """
    if not isinstance(config, TrainingConfig) or not dist.is_initialized():
        raise UsageError(f"{stage.name} is work for one process")
    size = dist.get_world_size()
    if config.parallel.size == 1:
        layout = config.parallel.model_copy(update={"data": size})
        config = config.model_copy(update={"parallel": layout})
    if dist.get_rank() > 0:
        out = gather_json(None)[0]
        if out is not None:
            stage.run(config, dict(inputs), Path(out), Log(None, quiet=True))
        return None
    return _lead(stage, config, inputs, root, log, resume, config.parallel)


def _lead(
    stage: Stage,
    config: Config,
    inputs: Mapping[str, Path],
    root: Path,
    log: Log,
    resume: Resume,
    layout: ParallelConfig,
) -> Artifact:
    """Do what one process alone would do; the others join when the stage itself begins."""
    told = False

    def run(config: Any, inputs: dict[str, Path], out: Path, log: Log) -> dict[str, Any]:
        nonlocal told
        told = True
        gather_json(str(out))
        note(FOLDER, str(out / CHECKPOINTS))
        log.info(f"{stage.name}: {layout.describe()}, {layout.size} processes")
        return stage.run(config, inputs, out, log)

    try:
        return run_stage(replace(stage, run=run), config, inputs, root, log=log, resume=resume)
    finally:
        if not told:
            gather_json(None)
