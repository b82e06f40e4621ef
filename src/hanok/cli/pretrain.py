"""`hanok pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import (
    ConfigFile,
    Json,
    Out,
    Overrides,
    Quiet,
    ResumeOption,
    Settings,
    once,
    prepare,
    run_verb,
    split_data,
)


def pretrain(
    *overrides: Overrides,
    data: Annotated[
        list[str] | None,
        cyclopts.Parameter(help="prepared tokens, or text files (default: Python's own prose)", consume_multiple=True),
    ] = None,
    config: ConfigFile = None,
    output_dir: Out = Path("runs"),
    resume: ResumeOption = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model from scratch: `hanok pretrain --data corpus/*.txt preset=llama-depth dials.depth=4 minutes=2`.

    On four processes: `hanok pretrain --data corpus/*.txt steps=1000 parallel.shard=4 -- --nproc-per-node=4` (what
    stands behind the lone dashes goes to torchrun; docs/guide/distributed.md).
    """
    from hanok.text.data.sources import mixed
    from hanok.train.stages import PRETRAIN, PretrainConfig

    files, changes = split_data(data, overrides)
    settings = Settings(changes, config, output_dir, resume, quiet, json)
    chosen = PretrainConfig.from_yaml(config, *changes)  # a wrong setting is said before data is prepared
    mixture, files = mixed(chosen.mixture, files)
    chosen = chosen.model_copy(update={"mixture": mixture})
    run_verb(PRETRAIN, {"tokens": once(lambda: prepare(files, settings))}, settings, config=chosen)
