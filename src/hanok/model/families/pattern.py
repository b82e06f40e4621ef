"""Layers that differ: our templates of what a config says layer by layer, and back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hanok.core.errors import UsageError
from hanok.model.families.table import Json, Row

DEEPEST = 10_000  # layers: a damaged config must not fill the memory


@dataclass(frozen=True)
class Kinds:
    """One way in which layers differ: a word for each layer, and for each word the rows that complete its template.

    `read` tells the words of so many layers from their config, `tell` the word of a template of ours, and `write` puts
    the words of all layers into their config. The paths of `rows` start at the template ("ffn.hidden").
    """

    read: Callable[[Json, int], Sequence[str]]
    tell: Callable[[Json], str]
    write: Callable[[Sequence[str], Json], None]
    rows: Mapping[str, tuple[Row, ...]]


@dataclass(frozen=True)
class Layers:
    """`rows` fill what all layers share ("layers.block..."); templates then part as `kinds` say.

    Layers that are all alike give one template named "block", others are named after the words in which they differ.
    """

    rows: tuple[Row, ...]
    kinds: tuple[Kinds, ...]

    def read(self, theirs: Json, ours: Json) -> None:
        for row in self.rows:
            row.read(theirs, ours)
        block, depth = ours["layers"].pop("block"), ours.get("depth")
        if not isinstance(depth, int) or not 0 < depth <= DEEPEST:
            raise UsageError(f"config.json: the number of layers must be a whole number up to {DEEPEST}, not {depth!r}")
        told = [kinds.read(theirs, depth) for kinds in self.kinds]
        differ = [len(set(words)) > 1 for words in told]
        names: list[str] = []
        templates: Json = {}
        for words in zip(*told, strict=True):
            name = "_".join(word for word, differs in zip(words, differ, strict=True) if differs) or "block"
            names.append(name)
            if name not in templates:
                templates[name] = copy.deepcopy(block)
                for kinds, word in zip(self.kinds, words, strict=True):
                    for row in kinds.rows[word]:
                        row.read(theirs, templates[name])
        ours["layers"], ours["pattern"] = templates, shortest(names)

    def write(self, ours: Json, theirs: Json) -> None:
        blocks: Json = ours["layers"]
        names = [ours["pattern"][layer % len(ours["pattern"])] for layer in range(ours["depth"])]
        for row in self.rows:
            row.write({**ours, "layers": {"block": blocks[names[0]]}}, theirs)
        for kinds in self.kinds:
            words = {name: kinds.tell(blocks[name]) for name in dict.fromkeys(names)}
            first = {word: blocks[name] for name, word in reversed(words.items())}
            for word, block in first.items():
                for row in kinds.rows[word]:
                    row.write(block, theirs)
            kinds.write([words[name] for name in names], theirs)


def shortest(names: Sequence[str]) -> list[str]:
    """Return the shortest list which, repeated and cut off, gives all names (Knuth, Morris and Pratt 1977)."""
    border = [0] * len(names)  # the longest proper prefix of names[: i + 1] that ends it too
    for i in range(1, len(names)):
        size = border[i - 1]
        while size and names[i] != names[size]:
            size = border[size - 1]
        border[i] = size + 1 if names[i] == names[size] else 0
    return list(names[: len(names) - border[-1]])


ATTENTION = {"full_attention": "global", "sliding_attention": "local"}


def windows(default: Callable[[Json, int], Sequence[str]], *, local: Sequence[Row], full: Sequence[Row] = ()) -> Kinds:
    """Return the kinds of `layer_types`, local and global; `default` tells them where the key is absent."""

    def read(theirs: Json, depth: int) -> Sequence[str]:
        types: Any = theirs.get("layer_types")
        if types is None:
            return default(theirs, depth)
        if not isinstance(types, list) or len(types) != depth or any(kind not in ATTENTION for kind in map(str, types)):
            known = " or ".join(map(repr, ATTENTION))
            raise UsageError(f"config.json: layer_types must say {known} for each of {depth} layers, not {types!r}")
        return [ATTENTION[kind] for kind in types]

    def tell(block: Json) -> str:
        return "global" if block["mixer"]["window"] is None else "local"

    def write(words: Sequence[str], theirs: Json) -> None:
        names = {ours: kind for kind, ours in ATTENTION.items()}
        theirs["layer_types"] = [names[word] for word in words]

    return Kinds(read, tell, write, {"local": tuple(local), "global": tuple(full)})


@dataclass(frozen=True)
class WindowRow:
    """The window of a template whose layers must have one."""

    default: int | None = None
    ours: str = "mixer.window"

    def read(self, theirs: Json, ours: Json) -> None:
        window = theirs.get("sliding_window", self.default)
        if not isinstance(window, int) or window < 1:
            raise UsageError(f"config.json: layers with sliding_attention need a sliding_window, not {window!r}")
        ours["mixer"]["window"] = window

    def write(self, ours: Json, theirs: Json) -> None:
        theirs["sliding_window"] = ours["mixer"]["window"]
