"""`hanok grpo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import ConfigFile, Json, ModelDir, Out, Overrides, Quiet, ResumeOption, Settings, run_verb


def grpo(
    model: ModelDir,
    *overrides: Overrides,
    data: Annotated[Path, cyclopts.Parameter(help="prompts: JSONL with prompt, answer and what the rewards read")],
    config: ConfigFile = None,
    output_dir: Out = Path("runs"),
    resume: ResumeOption = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model on rewards that can be checked: `hanok grpo MODEL --data prompts.jsonl steps=50`."""
    from hanok.align.stages import GRPO
    from hanok.cli.common import model_path

    settings = Settings(overrides, config, output_dir, resume, quiet, json)
    run_verb(GRPO, {"model": model_path(model), "prompts": data}, settings)
