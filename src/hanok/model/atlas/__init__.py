"""The atlas: published models by name, as configurations that can be counted, drawn and compared without weights."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from hanok.core.errors import UsageError, suggest
from hanok.model.config import ModelConfig
from hanok.model.families import FAMILIES


@cache
def entries() -> dict[str, dict[str, Any]]:
    """Return the config of every model, as its publisher writes it, by lower-case name."""
    text = files(__package__).joinpath("models.yaml").read_text(encoding="utf-8")
    return {
        name: group["base"] | own for group in yaml.safe_load(text).values() for name, own in group["models"].items()
    }


def published(name: str) -> ModelConfig:
    """Return our configuration of a published model, such as `llama-3-70b`; capitals do not matter."""
    known = entries()
    if name.lower() not in known:
        raise UsageError(f"the atlas has no {name!r}{suggest(name.lower(), known)} (hanok ls atlas)")
    theirs = dict(known[name.lower()])
    if "preset" in theirs:
        return ModelConfig.preset(theirs.pop("preset"), **theirs)
    return FAMILIES[theirs["model_type"]].read_config(theirs)
