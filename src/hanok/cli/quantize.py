"""`hanok quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import ConfigFile, Json, ModelDir, Out, Overrides, Quiet, ResumeOption, Settings, run_verb


def quantize(
    model: ModelDir,
    *overrides: Overrides,
    text: Annotated[Path | None, cyclopts.Parameter(help="calibration text for each layer's output error")] = None,
    config: ConfigFile = None,
    output_dir: Out = Path("runs"),
    resume: ResumeOption = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Store the weights in int8, or `quantizer=int4`, and report each layer's error: `hanok quantize MODEL`."""
    from hanok.cli.common import model_path
    from hanok.compress.stages import stage_for

    inputs = {"model": model_path(model), **({"tokens": text} if text is not None else {})}
    run_verb(stage_for(inputs), inputs, Settings(overrides, config, output_dir, resume, quiet, json))
