"""Ranks on this machine without a launcher: forked processes on gloo, whose results come back as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hanok.core.errors import HanokError, UsageError
from hanok.train.parallel.mesh import Place, process_group


def on_ranks(work: Callable[[], Any], size: int) -> list[Any]:
    """Call `work` in `size` forked processes of one thread each that share a process group (none for one process).

    Returns what each returned, which must be JSON-able, in the order of ranks; an error in any is raised here. For
    checks on a CPU: the calling process must not have used a GPU.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryDirectory() as folder:
        children = [_fork(work, Place(rank, size, rank), Path(folder)) for rank in range(size)]
        codes = _wait(children)
        failures = sorted(Path(folder).glob("*.error"), key=lambda path: path.stat().st_mtime_ns)
        for failure in failures[:1]:
            kind, text = json.loads(failure.read_text(encoding="utf-8"))
            raise UsageError(text) if kind == "UsageError" else HanokError(f"rank {failure.stem}: {text}")
        if any(codes):
            raise HanokError(f"a rank died: the exit codes of ranks 0 to {size - 1} are {codes}")
        return [json.loads((Path(folder) / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(size)]


def _fork(work: Callable[[], Any], where: Place, folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        torch.set_num_threads(1)
        result = _join(work, where, folder) if where.size > 1 else work()
        (folder / f"{where.rank}.json").write_text(json.dumps(result), encoding="utf-8")
        code = 0
    except UsageError as error:
        _report(folder, where, "UsageError", str(error))
    except BaseException:
        _report(folder, where, "error", traceback.format_exc())
    finally:
        os._exit(code)


def _join(work: Callable[[], Any], where: Place, folder: Path) -> Any:
    with process_group(where, init_method=f"file://{folder}/store", seconds=300):
        return work()


def _report(folder: Path, where: Place, kind: str, text: str) -> None:
    (folder / f"{where.rank}.error").write_text(json.dumps([kind, text]), encoding="utf-8")


def _wait(children: list[int]) -> list[int]:
    """Return the exit codes; once one process has failed, the others, which would wait for it, are ended."""
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        for child in children:
            if child not in codes:
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    codes[child] = os.waitstatus_to_exitcode(status)
        if any(codes.values()):
            time.sleep(0.2)  # errors that follow from the first say less than it does
            for child in children:
                if child not in codes:
                    os.kill(child, signal.SIGKILL)
                    codes[child] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.005)
    return [codes[child] for child in children]
