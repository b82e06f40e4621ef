from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hanok.core.device import cpu_count
from hanok.core.errors import HanokError, UsageError
from hanok.text.data.pipeline import job as jobs
from hanok.text.data.pipeline.engine import ENGINES
from hanok.text.data.pipeline.job import Job

# What a test's own worker does with a unit, as a module on its path.
TASK = """
import os, signal
from pathlib import Path
def work(job):
    def unit(number):
        folder = Path(job.folder)
        if number == job.config.get("bad"):
            from hanok.core.errors import UsageError
            raise UsageError(f"unit {number} is bad")
        mark = folder / f"tried-{number}"
        if number == job.config.get("dies") and (job.config.get("always") or not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        print("noise on the output")
        (folder / f"done-{number}").touch()
        return {}
    return unit
"""
START = "import hanok.text.data.pipeline.job as jobs; jobs.TASKS['own'] = 'own_task'; "


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Return run(units, workers, **config): units done, in the order in which they were."""
    (tmp_path / "own_task.py").write_text(TASK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start = subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        code = START + "from hanok.text.data.pipeline.worker import main; main()"
        return start([command[0], "-c", code], **options)

    monkeypatch.setattr(subprocess, "Popen", popen)

    def do(units: int, workers: int, **config: Any) -> list[int]:
        return list(ENGINES["local"](workers).run(Job("own", config, str(tmp_path)), range(units)))

    return do


def test_units_are_done_once_and_a_process_that_dies_is_replaced(run: Callable[..., list[int]], tmp_path: Path) -> None:
    assert sorted(run(5, 2, dies=3)) == [0, 1, 2, 3, 4] and (tmp_path / "tried-3").exists()
    assert sorted(file.name for file in tmp_path.glob("done-*")) == [f"done-{n}" for n in range(5)]


def test_a_unit_that_always_kills_its_process_is_named(run: Callable[..., list[int]]) -> None:
    with pytest.raises(HanokError, match=f"unit 0 of own ended its process by signal {signal.SIGKILL:d}, 3 times"):
        run(2, 2, dies=0, always=True)


def test_what_is_wrong_with_the_input_is_said_as_in_one_process(run: Callable[..., list[int]]) -> None:
    with pytest.raises(UsageError, match="unit 1 is bad"):
        run(4, 2, bad=1)


def test_one_worker_is_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[int] = []
    own = types.ModuleType("own_here")
    own.work = lambda job: lambda number: seen.append(os.getpid())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_here", own)
    monkeypatch.setitem(jobs.TASKS, "own", "own_here")
    job = Job("own", {}, str(tmp_path))
    assert list(ENGINES["local"](1).run(job, [4, 7])) == [4, 7] and list(ENGINES["local"](8).run(job, [2])) == [2]
    assert seen == [os.getpid()] * 3 and json.loads(json.dumps(job.to_dict())) == job.to_dict() and cpu_count() >= 1
