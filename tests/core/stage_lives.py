"""A stage killed by SIGKILL at each system call between its last line and its end: `python stage_lives.py FOLDER`.

Prints one JSON line for each moment: what the next life found there, and how often the stage has run by then.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from hanok.core.config import Config
from hanok.core.log import Log
from hanok.core.stage import Stage, run_stage
from tests.fuse import Fuse

CHECKPOINTS = "checkpoints"
FILES = ("model.safetensors", "state.json")


class Nothing(Config):
    pass


def life(root: Path, fuse: Fuse | None) -> dict[str, Any]:
    """Run the stage to its end, or to the fuse's."""

    def run(config: Any, inputs: dict[str, Path], out: Path, log: Log) -> dict[str, Any]:
        steps = [out / CHECKPOINTS / f"step-{step:06d}" for step in (10, 12)]
        if not (out / CHECKPOINTS).exists():
            for step in steps:
                step.mkdir(parents=True)
                for name in FILES:
                    (step / name).write_text("saved")
        assert all((step / name).is_file() for step in steps for name in FILES), "a damaged checkpoint"
        with (out / "runs.txt").open("a") as file:
            file.write("x")
        if fuse is not None:
            fuse.lit = True
        return {}

    artifact = run_stage(Stage("s", "k", Nothing, run), Nothing(), {}, root, log=Log(quiet=True))
    artifact.verify()
    left = sorted(path.name for path in artifact.path.iterdir())
    return {"left": left, "files": sorted(artifact.files), "runs": len((artifact.path / "runs.txt").read_text())}


def main() -> None:
    for number in range(1000):
        root = Path(sys.argv[1]) / str(number)
        pid = os.fork()
        if pid == 0:
            life(root, Fuse(number))
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"killed": code == -signal.SIGKILL, **life(root, None)}), flush=True)
        if code != -signal.SIGKILL:
            return


if __name__ == "__main__":
    main()
