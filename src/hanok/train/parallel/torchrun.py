"""Starting a job on many processes: `torchrun` underneath."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from hanok.core.errors import UsageError

MEETING = ("--nnodes", "--rdzv", "--master", "--standalone")  # options that say where several machines meet
RESTARTS = "--max-restarts"


def torchrun(command: Sequence[str], options: Sequence[str]) -> None:
    """Become `torchrun OPTIONS -m hanok COMMAND`; does not return.

    On one machine, restarts are ours: torchrun's follow at once, and it takes a crash loop for bad luck.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    options, restarts = split_restarts(options)
    if restarts and not several(options):
        from hanok.train.parallel.supervise import Patience, supervise

        raise SystemExit(supervise([sys.executable, *words(command, options)], Patience(restarts)))
    options = [*options, f"{RESTARTS}={restarts}"] if restarts else options
    os.execv(sys.executable, [sys.executable, *words(command, options)])


def words(command: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return the arguments of the interpreter; one machine needs no place to meet, and takes any free port."""
    meeting = [] if several(options) else ["--standalone"]
    return ["-m", "torch.distributed.run", *meeting, *options, "-m", "hanok", *command]


def several(options: Sequence[str]) -> bool:
    """Return whether the options say where machines meet."""
    return any(word.startswith(MEETING) for word in options)


def split_restarts(options: Sequence[str]) -> tuple[list[str], int]:
    """Return the other options, and how often the job may be started again (`--max-restarts=3`, also with a space)."""
    left: list[str] = []
    found, rest = "0", iter(options)
    for word in rest:
        name, equals, value = word.replace("_", "-", 2).partition("=")
        if name == RESTARTS:
            found = value if equals else next(rest, "")
        else:
            left.append(word)
    if not found.isdecimal():
        raise UsageError(f"{RESTARTS} {found!r}: how often the job may be started again, such as {RESTARTS}=3")
    return left, int(found)
