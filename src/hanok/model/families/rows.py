"""Rows that several families share: heads, rotary positions, and booleans that are words with us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hanok.core.errors import UsageError
from hanok.model.families.scaling import ORIGINAL, read_scaling, write_scaling
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
    """RoPE's base, scaling and rotated fraction, for the position scheme at the path `ours`.

    transformers 5 keeps them in `rope_parameters`, 4 in `rope_theta`, `rope_scaling` and a key beside; `theta` and
    `fraction` are the names of the old keys (`rotary_emb_base` and `rotary_pct` in GPT-NeoX), the other two what it
    means if they are absent.
    """

    ours: str
    theta: str = "rope_theta"
    fraction: str = "partial_rotary_factor"
    default_theta: float = 10000.0
    default_fraction: float = 1.0

    def read(self, theirs: Json, ours: Json) -> None:
        rope = theirs.get("rope_parameters") or theirs.get("rope_scaling") or {}
        theta = rope.get("rope_theta") or theirs.get(self.theta) or self.default_theta
        fraction = rope.get("partial_rotary_factor", theirs.get(self.fraction))
        put(ours, self.ours + ".theta", float(theta))
        put(ours, self.ours + ".fraction", self.default_fraction if fraction is None else float(fraction))
        put(ours, self.ours + ".scaling", read_scaling(rope, theirs))

    def write(self, ours: Json, theirs: Json) -> None:
        position = get(ours, self.ours)
        if position["kind"] != "rope":
            raise KeyError(self.ours)
        scaling = write_scaling(position["scaling"])
        rope: Json = {"rope_theta": position["theta"], **(scaling or {"rope_type": "default"})}
        if not position["fraction"] == self.default_fraction == 1.0:
            rope["partial_rotary_factor"] = theirs[self.fraction] = position["fraction"]
        if scaling and scaling["rope_type"] == "longrope":  # Phi-3 keeps it beside, and prefers what is there
            theirs[ORIGINAL] = scaling[ORIGINAL]
        theirs[self.theta] = position["theta"]
        theirs["rope_scaling"], theirs["rope_parameters"] = scaling, rope


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
