"""Rows that several families share: heads, rotary positions, and booleans that are words with us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hanok.core.errors import UsageError
from hanok.model.families.table import Json, get, put

BLOCK = "layers.block."
TRANSFORMER: Json = {
    "layers": {
        "block": {
            "mixer": {"kind": "gqa", "position": {"kind": "rope"}},
            "ffn": {"kind": "swiglu"},
            "norm": {"kind": "rmsnorm"},
        }
    },
    "norm": {"kind": "rmsnorm"},
}


@dataclass(frozen=True)
class RopeRow:
    """RoPE's base and scaling: `rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (4)."""

    ours: str

    def read(self, theirs: Json, ours: Json) -> None:
        new = theirs.get("rope_parameters") or {}
        scaling = new or theirs.get("rope_scaling") or {}
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        theta = new.get("rope_theta") or theirs.get("rope_theta") or 10000.0
        put(ours, self.ours + ".theta", float(theta))
        put(ours, self.ours + ".scaling", _read_scaling(kind, scaling, theirs))

    def write(self, ours: Json, theirs: Json) -> None:
        position = get(ours, self.ours)
        if position["kind"] != "rope":
            raise KeyError(self.ours)
        scaling = _write_scaling(position["scaling"])
        theirs["rope_theta"] = position["theta"]
        theirs["rope_scaling"] = scaling
        theirs["rope_parameters"] = {"rope_theta": position["theta"], **(scaling or {"rope_type": "default"})}


def _read_scaling(kind: str, scaling: Json, theirs: Json) -> Json | None:
    if kind == "default":
        return None
    try:
        if kind == "linear":
            return {"kind": "linear", "factor": scaling["factor"]}
        if kind == "llama3":
            context = scaling.get("original_max_position_embeddings", theirs.get("max_position_embeddings"))
            names = ("factor", "low_freq_factor", "high_freq_factor")
            return {"kind": "llama3", **{name: scaling[name] for name in names}, "original_context": context}
    except KeyError as error:
        raise UsageError(f"config.json: rope scaling {kind!r} has no {error}") from None
    raise UsageError(f"config.json: rope scaling {kind!r} is not supported (known: default, linear, llama3)")


def _write_scaling(scaling: Json | None) -> Json | None:
    if scaling is None:
        return None
    theirs: Json = {"rope_type": scaling["kind"], "factor": scaling["factor"]}
    if scaling["kind"] == "llama3":
        theirs |= {name: scaling[name] for name in ("low_freq_factor", "high_freq_factor")}
        theirs["original_max_position_embeddings"] = scaling["original_context"]
    return theirs


@dataclass(frozen=True)
class HeadsRow:
    """Heads, shared heads and their size, of which older files leave the last two to be worked out."""

    ours: str = BLOCK + "mixer"

    def read(self, theirs: Json, ours: Json) -> None:
        heads, dim = theirs.get("num_attention_heads"), theirs.get("hidden_size")
        if not isinstance(heads, int) or not isinstance(dim, int) or heads < 1:
            raise UsageError("config.json needs whole numbers 'hidden_size' and 'num_attention_heads'")
        put(ours, self.ours + ".heads", heads)
        put(ours, self.ours + ".kv_heads", theirs.get("num_key_value_heads") or heads)
        put(ours, self.ours + ".head_dim", theirs.get("head_dim") or dim // heads)

    def write(self, ours: Json, theirs: Json) -> None:
        mixer = get(ours, self.ours)
        theirs["num_attention_heads"] = mixer["heads"]
        theirs["num_key_value_heads"] = mixer["kv_heads"] or mixer["heads"]
        theirs["head_dim"] = mixer["head_dim"] or ours["dim"] // mixer["heads"]


def flag(true: str, false: str) -> dict[str, Any]:
    """Return how a boolean of theirs reads as one of two words of ours; another word has no translation."""
    return {
        "default": False,
        "read_as": lambda value: true if value else false,
        "write_as": lambda word: {true: True, false: False}[word],
    }
