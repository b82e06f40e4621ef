"""`hanok inspect MODEL_OR_PRESET`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from hanok.cli.common import Json, emit
from hanok.core.errors import UsageError, suggest


def inspect(
    model: Annotated[str, cyclopts.Parameter(help="model folder, preset, or a published model")],
    *overrides: Annotated[str, cyclopts.Parameter(help="a preset's dials as key=value, such as depth=8")],
    lengths: Annotated[
        list[int] | None, cyclopts.Parameter(help="sequence lengths to cost", consume_multiple=True)
    ] = None,
    json: Json = False,
) -> None:
    """Show parameters, FLOPs per token, memory, cache bytes per token and a block diagram, counted by structure."""
    from hanok.model.diagram import describe, draw
    from hanok.model.size import count

    config = read_config(model, overrides)
    facts = describe(count(config), lengths or [1024, config.context])
    if not json:
        print(draw(config) + "\n")
    emit({"model": model, **facts, **({"config": config.to_dict()} if json else {})}, as_json=json)


def read_config(model: str, overrides: tuple[str, ...]):  # type: ignore[no-untyped-def]
    """Return the ModelConfig of a folder or preset."""
    from hanok.core.config import set_override
    from hanok.model.atlas import entries, published
    from hanok.model.config import ModelConfig
    from hanok.model.gguf.load import is_gguf, read_gguf_config
    from hanok.model.preset import PRESETS
    from hanok.model.weights import is_model_dir, read_architecture
    from hanok.model.weights import read_config as read_json

    path = Path(model)
    if is_gguf(path):
        return read_gguf_config(path)
    if is_model_dir(path):
        if overrides:
            raise UsageError("settings apply to presets; a model folder is what it is")
        return read_architecture(read_json(path), path)[1]
    if model in PRESETS:
        dials: dict[str, object] = {}
        for override in overrides:
            set_override(dials, override)
        return ModelConfig.preset(model, **dials)
    if model.lower() in entries():
        if overrides:
            raise UsageError("settings apply to presets; a published model is what it is")
        return published(model)
    raise UsageError(
        f"{model!r} is neither a model folder, a preset nor a model of the atlas"
        f"{suggest(model, [*PRESETS, *entries()])} (hanok ls presets, hanok ls atlas)"
    )
