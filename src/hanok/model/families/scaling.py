"""RoPE scalings in the words of Hugging Face configs, read and written without loss."""

from __future__ import annotations

from typing import Any

from hanok.core.errors import UsageError, suggest
from hanok.model.families.table import Json

ORIGINAL = "original_max_position_embeddings"
ALIASES = {"su": "longrope"}  # Phi-3's first name for it

# Of each scaling, their key and ours: those that must be there, and those that may be.
REQUIRED: dict[str, dict[str, str]] = {
    "linear": {"factor": "factor"},
    "dynamic": {"factor": "factor"},
    "yarn": {"factor": "factor"},
    "llama3": {name: name for name in ("factor", "low_freq_factor", "high_freq_factor")},
    "longrope": {name: name for name in ("short_factor", "long_factor")},
}
OPTIONAL: dict[str, dict[str, str]] = {
    "dynamic": {"length": "length"},
    "yarn": {name: name for name in ("beta_fast", "beta_slow", "mscale", "mscale_all_dim")},
    "longrope": {"factor": "factor", "length": "length"},
}
ATTENTION = ("yarn", "longrope")  # those whose cosines and sines may be multiplied by `attention_factor`


def read_scaling(scaling: Json, theirs: Json) -> Json | None:
    """Return our config of `rope_scaling` or `rope_parameters`, given the whole config.json for what they leave out."""
    if any(isinstance(value, dict) for value in scaling.values()):
        raise UsageError(f"config.json: rope parameters by layer type ({', '.join(scaling)}) are not read here")
    kind = str(scaling.get("rope_type", scaling.get("type", "default")))
    kind = ALIASES.get(kind, kind)
    if kind == "default":
        return None
    if kind not in REQUIRED:
        known = ["default", *REQUIRED]
        hint = suggest(kind, known) or f" (known: {', '.join(known)})"
        raise UsageError(f"config.json: rope scaling {kind!r} is not supported{hint}")
    context = theirs.get("max_position_embeddings")
    ours: Json = {"kind": kind}
    if kind in ("llama3", "yarn", "longrope"):
        ours["original_context"] = theirs.get(ORIGINAL) or scaling.get(ORIGINAL) or context
    elif kind == "dynamic":
        ours["original_context"] = context
    if kind == "longrope":
        ours["context"] = context
    if kind == "yarn" and scaling.get("factor", 0) is None and context:
        scaling = scaling | {"factor": context / ours["original_context"]}
    for key, name in REQUIRED[kind].items():
        if scaling.get(key) is None:
            raise UsageError(f"config.json: rope scaling {kind!r} has no {key!r}")
        ours[name] = scaling[key]
    ours |= {name: scaling[key] for key, name in _optional(kind).items() if scaling.get(key) is not None}
    if kind == "yarn" and scaling.get("truncate") is not None:
        ours["truncate"] = "whole" if scaling["truncate"] else "none"
    return ours


def write_scaling(scaling: Json | None) -> Json | None:
    """Return theirs of ours; a value that ours leaves at its default is left out."""
    if scaling is None:
        return None
    kind: str = scaling["kind"]
    theirs: Json = {"rope_type": kind}
    for key, name in {**REQUIRED[kind], **_optional(kind)}.items():
        if scaling.get(name) is not None:
            theirs[key] = _plain(scaling[name])
    if kind in ("llama3", "yarn", "longrope"):
        theirs[ORIGINAL] = scaling["original_context"]
    if kind == "yarn" and scaling.get("truncate") is not None:
        theirs["truncate"] = scaling["truncate"] == "whole"
    return theirs


def _optional(kind: str) -> dict[str, str]:
    return OPTIONAL.get(kind, {}) | ({"attention_factor": "attention"} if kind in ATTENTION else {})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
