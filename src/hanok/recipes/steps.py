"""What recipes share: stages run one after the other in a folder, each finished one said in a line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from hanok.core.artifact import Artifact
from hanok.core.config import Config
from hanok.core.log import Log
from hanok.core.stage import Stage, run_stage


class Steps:
    """A run so far: its folder, its voice, and the artifacts by the name of their step.

    `fresh` starts over; otherwise a finished step is taken as it is and an unfinished one goes on.
    """

    def __init__(self, root: Path, *, fresh: bool, quiet: bool) -> None:
        self.root, self.log = root, Log(quiet=quiet)
        self.resume: Literal["false", "auto"] = "false" if fresh else "auto"
        self.made: dict[str, Artifact] = {}

    def said(self, name: str, artifact: Artifact) -> str:
        """Return a step's figures in one line."""
        return ""

    def step(self, name: str, stage: Stage, config: Config, **inputs: Path) -> Artifact:
        """Run one step, or take what is there, and say its figures."""
        started, before = time.monotonic(), set(self.root.glob(f"{name}-*"))
        artifact = run_stage(stage, config, inputs, self.root, log=self.log, resume=self.resume, name=name)
        self.made[name] = artifact
        text = self.said(name, artifact)
        if artifact.path in before:
            self.log.info(f"✓ {name} (there already: {artifact.path.name}) {text}")
        else:
            self.log.done(name, time.monotonic() - started, text)
        return artifact
