"""The processes of this machine, which speak JSON lines over pipes."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hanok
from hanok.core.errors import HanokError
from hanok.text.data.pipeline.engine import ENGINES
from hanok.text.data.pipeline.job import Job, Worker, check_answer

TRIES = 3  # a process may be ended from outside, as by a machine short of memory


@ENGINES.register("local")
class Local:
    """Worker processes on this machine; one worker is this process itself."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, job: Job, units: Sequence[int]) -> Iterator[int]:
        """Do the units, each on the next free process; a process that dies is replaced, and its unit done again."""
        if self.workers == 1 or len(units) <= 1:
            worker = Worker(job.to_dict())
            for unit in units:
                yield check_answer(worker(unit))
            return
        yield from _Crew(job, units, min(self.workers, len(units))).answers()


class _Crew:
    """Threads that each lead one process: they take a unit, send it, and pass the answer on."""

    def __init__(self, job: Job, units: Sequence[int], size: int) -> None:
        self._job, self._count = job, len(units)
        self._todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for unit in units:
            self._todo.put(unit)
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._threads = [threading.Thread(target=self._lead, args=(n,), daemon=True) for n in range(size)]

    def answers(self) -> Iterator[int]:
        """Yield units as they are finished."""
        try:
            for thread in self._threads:
                thread.start()
            for _ in range(self._count):
                yield check_answer(self._answers.get())
        finally:
            self._close()

    def _lead(self, number: int) -> None:
        try:
            while True:
                unit = self._todo.get_nowait()
                self._answers.put(self._ask(number, unit))
        except queue.Empty:
            return
        except Exception as error:  # a thread that dies in silence would leave the run waiting for ever
            self._answers.put({"unit": -1, "error": f"a worker could not be led: {error!r}", "usage": False})

    def _ask(self, number: int, unit: int) -> dict[str, Any]:
        code: int | None = None
        for _ in range(TRIES):
            process = self._process(number)
            if process is None:
                return {"unit": unit, "error": "stopped", "usage": False}
            line = _exchange(process, unit)
            if line:
                return dict(json.loads(line))
            with self._lock:
                self._processes.pop(number, None)
            code = _end(process)
        killed = code is not None and code < 0
        reason = f"by signal {-(code or 0)}" if killed else f"with exit code {code}"
        hint = "out of memory? use fewer workers" if killed else "its error stands above"
        text = f"unit {unit} of {self._job.task} ended its process {reason}, {TRIES} times ({hint})"
        return {"unit": unit, "error": text, "usage": False}

    def _process(self, number: int) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._closed:
                return None
            if number not in self._processes:
                self._processes[number] = _start(self._job)
            return self._processes[number]

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            processes = list(self._processes.values())
        for process in processes:
            process.kill()  # a unit that is not finished leaves nothing behind
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        for process in processes:
            _end(process)


def _start(job: Job) -> subprocess.Popen[str]:
    paths = [str(Path(hanok.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    alone = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # processes are the parallelism
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "hanok.text.data.pipeline.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, **alone, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        pass_fds=_locks(),
    )
    _send(process, job.to_dict())
    return process


def _locks() -> tuple[int, ...]:
    from hanok.text.data.pipeline.lock import HELD

    return tuple(HELD)


def _exchange(process: subprocess.Popen[str], unit: int) -> str:
    """Return the answer to a unit, or nothing if the process is gone."""
    if process.stdout is None:
        raise HanokError("a worker has no output")
    return process.stdout.readline() if _send(process, unit) else ""


def _send(process: subprocess.Popen[str], value: Any) -> bool:
    try:
        if process.stdin is not None:
            process.stdin.write(json.dumps(value) + "\n")
            process.stdin.flush()
    except (BrokenPipeError, ValueError):  # gone, or closed on the way out
        return False
    return True


def _end(process: subprocess.Popen[str]) -> int:
    """Close the pipes of a process that is gone, and return its exit code."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    return process.wait()
