"""`hanok sft`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import ConfigFile, Json, ModelDir, Out, Overrides, Quiet, ResumeOption, Settings, run_verb


def sft(
    model: ModelDir,
    *overrides: Overrides,
    data: Annotated[Path, cyclopts.Parameter(help="conversations: JSONL with messages, or a folder with train.jsonl")],
    config: ConfigFile = None,
    output_dir: Out = Path("runs"),
    resume: ResumeOption = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model on conversations: `hanok sft MODEL --data chat.jsonl steps=200`."""
    from hanok.cli.common import model_path
    from hanok.train.stages import SFT

    settings = Settings(overrides, config, output_dir, resume, quiet, json)
    run_verb(SFT, {"model": model_path(model), "conversations": data}, settings)
