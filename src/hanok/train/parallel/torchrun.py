"""Starting a job on many processes: `torchrun` underneath."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

MEETING = ("--nnodes", "--rdzv", "--master", "--standalone")  # options that say where several machines meet


def torchrun(command: Sequence[str], options: Sequence[str]) -> None:
    """Become `torchrun OPTIONS -m hanok COMMAND`; does not return."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *words(command, options)])


def words(command: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return the arguments of the interpreter; one machine needs no place to meet, and takes any free port."""
    meeting = [] if any(word.startswith(MEETING) for word in options) else ["--standalone"]
    return ["-m", "torch.distributed.run", *meeting, *options, "-m", "hanok", *command]
