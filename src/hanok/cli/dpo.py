"""`hanok dpo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import ConfigFile, Json, ModelDir, Out, Overrides, Quiet, ResumeOption, Settings, run_verb


def dpo(
    model: ModelDir,
    *overrides: Overrides,
    data: Annotated[Path, cyclopts.Parameter(help="preferences: JSONL with prompt, chosen, rejected")],
    config: ConfigFile = None,
    output_dir: Out = Path("runs"),
    resume: ResumeOption = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Align a model with better and worse answers: `hanok dpo MODEL --data pairs.jsonl steps=100`."""
    from hanok.align.stages import DPO
    from hanok.cli.common import model_path

    settings = Settings(overrides, config, output_dir, resume, quiet, json)
    run_verb(DPO, {"model": model_path(model), "preferences": data}, settings)
