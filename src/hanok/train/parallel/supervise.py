"""Starting a job again when it has lost a process, more and more slowly where that does not help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hanok.train.checkpoint.folder import checkpoints

NOTES = "HANOK_SUPERVISED"  # names the folder where a life leaves word of itself
FOLDER, ENDED = "folder", "ended"
HOPELESS = (2, 3)  # exit codes of a life that another one would only repeat: wrong input, a gate that was missed


@dataclass(frozen=True)
class Patience:
    """How often a job is started again, and the seconds before it: `first`, doubled up to `longest`.

    Both begin anew whenever a life has left a newer checkpoint than the one before: only lives that get nowhere are a
    crash loop.
    """

    restarts: int
    first: float = 1.0
    longest: float = 60.0

    def pause(self, failures: int) -> float:
        """Return the seconds after so many failures in a row (1, 2, ...)."""
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 32))


def supervise(
    command: Sequence[str],
    patience: Patience,
    *,
    pause: Callable[[float], object] | None = None,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> int:
    """Run a command until it succeeds or no more restarts are left, and return its exit code.

    A life goes on from the last checkpoint of the one before, as every run does. Signals to end are handed on, and
    then nothing is started again.
    """
    with tempfile.TemporaryDirectory(prefix="hanok-") as notes, Ending() as ending:
        failures, reached = 0, ""
        while True:
            code = ending.run(command, {**os.environ, NOTES: notes})
            newest = _newest(Path(notes))
            failures = 1 if newest != reached else failures + 1
            reached = newest
            told = _read(Path(notes), ENDED)  # by a rank: torchrun itself ends with 1 whatever has happened
            if told in HOPELESS:
                return int(str(told))
            if code == 0 or ending.asked():
                return code
            if failures > patience.restarts:
                say(f"error: the job has failed {failures} times without a new checkpoint: it is not started again")
                return code
            wait = patience.pause(failures)
            since = f"goes on from {newest}" if newest else "starts over: there is no checkpoint yet"
            say(f"the job has ended with code {code}; in {wait:g} s it {since} (failure {failures} in a row)")
            (pause or ending.wait)(wait)
            if ending.asked():
                return code


class Ending:
    """Hands SIGTERM and SIGINT on to the command that runs, and remembers that they came."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Ending:
        self._before = {number: signal.signal(number, self._hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Return whether somebody wants the job to end."""
        return self._asked.is_set()

    def wait(self, seconds: float) -> None:
        """Wait, unless somebody wants the job to end."""
        self._asked.wait(seconds)

    def run(self, command: Sequence[str], environment: dict[str, str]) -> int:
        """Run a command to its end and return its exit code."""
        self._child = subprocess.Popen(command, env=environment, start_new_session=True)
        if self.asked():  # between two lives
            self._child.terminate()
        code = self._child.wait()
        return code if code >= 0 else 128 - code

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self._asked.set()
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)


def note(name: str, value: object) -> None:
    """Leave word for whoever supervises this process, if anybody does."""
    if folder := os.environ.get(NOTES):
        path = Path(folder) / name
        work = path.with_name(f".{name}.{os.getpid()}")
        work.write_text(json.dumps(value), encoding="utf-8")
        work.replace(path)


def _read(notes: Path, name: str) -> object:
    try:
        return json.loads((notes / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _newest(notes: Path) -> str:
    """Return the name of the newest checkpoint of the run that the last life has worked on."""
    folder = _read(notes, FOLDER)
    found = checkpoints(Path(str(folder))) if folder else []
    return found[-1].name if found else ""
