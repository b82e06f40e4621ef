"""What the families after GPT share: layer norms, a network of two layers, and several names for one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hanok.core.errors import UsageError, suggest
from hanok.model.families.rows import BLOCK
from hanok.model.families.table import REQUIRED, Json, get, put

GPT: Json = {
    "layers": {
        "block": {
            "mixer": {"kind": "gqa", "position": {"kind": "none"}, "bias": "all"},
            "ffn": {"kind": "mlp", "bias": "all"},
            "norm": {"kind": "layernorm"},
        }
    },
    "norm": {"kind": "layernorm"},
}
EPS = (BLOCK + "norm.eps", "norm.eps")
# The first of their words for an activation of ours is the one that is written.
WORDS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
    "quick_gelu": "gelu_quick",
}


def merged(base: Json, changes: Json) -> Json:
    """Return nested mappings with changes put in."""
    out = dict(base)
    for key, value in changes.items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def head_size(ours: Json) -> int:
    """Return the size of a head, which is the width divided by the heads."""
    dim, heads = ours.get("dim"), get(ours, BLOCK + "mixer.heads")
    if not isinstance(dim, int) or not isinstance(heads, int) or not 0 < heads <= dim:
        raise UsageError(f"config.json: a width of {dim!r} cannot be divided among {heads!r} heads")
    return dim // heads


@dataclass(frozen=True)
class Either:
    """A fact that goes by several names: the first that is there is read, all are written, so that none is stale."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    default: Any = REQUIRED

    def read(self, theirs: Json, ours: Json) -> None:
        found = [theirs[name] for name in self.theirs if theirs.get(name) is not None]
        if not found and self.default is REQUIRED:
            raise UsageError(f"config.json has no {self.theirs[0]!r}")
        for path in self.ours:
            put(ours, path, found[0] if found else self.default)

    def write(self, ours: Json, theirs: Json) -> None:
        theirs.update(dict.fromkeys(self.theirs, get(ours, self.ours[0])))


@dataclass(frozen=True)
class ActivationRow:
    """The activation of the feed-forward network, by their word; `words` are those that this family computes."""

    theirs: str
    default: str
    words: tuple[tuple[str, str], ...] = tuple(WORDS.items())

    def read(self, theirs: Json, ours: Json) -> None:
        word, known = theirs.get(self.theirs, self.default), dict(self.words)
        if not isinstance(word, str) or word not in known:
            hint = suggest(str(word), known) or f" (known: {', '.join(known)})"
            raise UsageError(f"config.json: {self.theirs} = {word!r} is not supported{hint}")
        put(ours, BLOCK + "ffn.activation", known[word])

    def write(self, ours: Json, theirs: Json) -> None:
        activation = get(ours, BLOCK + "ffn.activation")
        words = [word for word, ours_word in self.words if ours_word == activation]
        if not words:
            raise KeyError(activation)
        theirs[self.theirs] = words[0]


@dataclass(frozen=True)
class InnerRow:
    """The inner width of the feed-forward network; null means four times the model's, and is what is written for it."""

    theirs: str

    def read(self, theirs: Json, ours: Json) -> None:
        put(ours, BLOCK + "ffn.hidden", theirs.get(self.theirs) or None)

    def write(self, ours: Json, theirs: Json) -> None:
        hidden = get(ours, BLOCK + "ffn.hidden")
        theirs[self.theirs] = None if hidden == 4 * ours["dim"] else hidden
