"""The second table of a family: rows that say which of our tensors theirs are, read in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig

Shapes = Sequence[torch.Size]
MOST = 1 << 18  # tensors of theirs: three times those of the models with most experts


class Op(Protocol):
    """What happens between their tensor and ours; `split` and `join` undo each other."""

    def split(self, theirs: Tensor, shapes: Shapes) -> Sequence[Tensor]:
        """Return our tensors, of these shapes, of theirs."""
        ...

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        """Return their tensor of ours."""
        ...


def _turned(x: Tensor) -> Tensor:
    """Return a matrix transposed; a vector, such as the scales of a packed matrix, as it is."""
    return x.transpose(-1, -2) if x.dim() > 1 else x


class Same:
    """One tensor of theirs is one of ours."""

    def split(self, theirs: Tensor, shapes: Shapes) -> Sequence[Tensor]:
        return (theirs,)

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        return ours[0]


class Transpose:
    """Their matrix is (in, out), ours (out, in); leading dimensions are left alone."""

    def split(self, theirs: Tensor, shapes: Shapes) -> Sequence[Tensor]:
        return (_turned(theirs),)

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        return _turned(ours[0])


class Reshape:
    """The same numbers in the same order in another shape of theirs: `sizes`, in which -1 is worked out."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    def split(self, theirs: Tensor, shapes: Shapes) -> Sequence[Tensor]:
        return (theirs.reshape(shapes[0]),) if theirs.numel() == shapes[0].numel() else (theirs,)

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        return ours[0].reshape(self.sizes)


class Rows:
    """Their tensor is ours, one under the other (a fused projection)."""

    def split(self, theirs: Tensor, shapes: Shapes) -> Sequence[Tensor]:
        sizes = [shape[0] for shape in shapes]
        return theirs.split(sizes) if sum(sizes) == theirs.shape[0] else [theirs] * len(shapes)

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        return torch.cat(tuple(ours))


class Columns:
    """Their (in, out) matrix holds ours, (out, in) each, side by side (a fused projection of GPT-2)."""

    def split(self, theirs: Tensor, shapes: Shapes) -> Sequence[Tensor]:
        return Rows().split(_turned(theirs), shapes)

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        return _turned(torch.cat(tuple(ours)))


class Interleaved:
    """Their rows go group by group: in each of `groups`, a share of every one of ours (query heads, key, value).

    How many groups there are stands in a config of ours, at this path: `bind` makes the operation.
    """

    def __init__(self, groups: str) -> None:
        self.groups = groups

    def bind(self, groups: int) -> Op:
        """Return the operation for a number of groups."""
        return _Interleaved(groups)


class _Interleaved:
    def __init__(self, groups: int) -> None:
        self.groups = groups

    def split(self, theirs: Tensor, shapes: Shapes) -> Sequence[Tensor]:
        each = [shape[0] // self.groups for shape in shapes]
        if sum(each) * self.groups != theirs.shape[0]:
            return [theirs] * len(shapes)
        parts = theirs.unflatten(0, (self.groups, -1)).split(each, 1)
        return [part.flatten(0, 1) for part in parts]

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        return torch.cat([x.unflatten(0, (self.groups, -1)) for x in ours], 1).flatten(0, 1)


SAME, DROP, TIED = Same(), Same(), Same()  # DROP and TIED are told from SAME by identity: see `Rule`
TRANSPOSE, ROWS, COLUMNS = Transpose(), Rows(), Columns()


@dataclass(frozen=True)
class Rule:
    """Their tensor name, our name or names, and what happens on the way; `{l}` stands for a layer's number.

    `{m}` in both names stands for the numbers of the modules behind the stack that predict further ahead.
    An index may be moved: `blocks.{l*2+1}.`. An index that is in their name alone counts the parts of a stacked tensor
    of ours (`experts.{e}.`). DROP ignores a tensor (a buffer that we compute), TIED one that shares another's matrix.
    Where their name depends on the config, `when` is a path in ours and the words there for which this is the name.
    Where a name holds for some layers alone, or counts something else, `over` gives the numbers of each by the words
    that stand in braces.
    """

    theirs: str
    ours: str | tuple[str, ...] = ""
    op: Op | Interleaved = SAME
    when: tuple[str, ...] = ()
    over: Callable[[ModelConfig], Iterable[Mapping[str, int | str]]] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Return our names."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours


@dataclass(frozen=True)
class Piece:
    """One tensor of theirs: what it is of ours, and, for a stacked tensor of ours, which part."""

    ours: tuple[str, ...]
    op: Op
    part: int | None = None


def expand(
    rules: Iterable[Rule], config: ModelConfig, shapes: Mapping[str, torch.Size]
) -> tuple[dict[str, Piece], set[str]]:
    """Return every tensor of theirs for the tensors that a model of ours has, and the names that may be ignored.

    Where several rules give one of our tensors, all are read and the first is written.
    """
    pieces: dict[str, Piece] = {}
    ignored: set[str] = set()
    for rule in rules:
        if rule.when and str(_at(rule.when[0], config)) not in rule.when[1:]:
            continue
        op = _bound(rule.op, config)
        for numbers in rule.over(config) if rule.over else _numbers(rule.theirs, config):
            theirs, names = _fill(rule.theirs, numbers), tuple(_fill(name, numbers) for name in rule.names)
            if rule.op is DROP:
                ignored.add(theirs)
                if len(ignored) > MOST:
                    raise UsageError(f"config.json asks for more than {MOST} tensors, {theirs} among them")
            elif all(name in shapes for name in names):
                parts = _parts(theirs, shapes[names[0]])
                if len(pieces) + len(parts) > MOST:
                    raise UsageError(f"config.json asks for more than {MOST} tensors, {len(parts)} of {names[0]} alone")
                for part in parts:
                    name = theirs if part is None else theirs.replace("{e}", str(part))
                    pieces.setdefault(name, Piece(names, op, part))
                    scales = tuple(f"{ours}_scale" for ours in names)
                    if all(scale in shapes for scale in scales):  # a packed weight's scales travel with it
                        pieces.setdefault(f"{name}_scale", Piece(scales, op, part))
            elif rule.op is TIED:
                ignored.add(theirs)
    return pieces, ignored


def _parts(theirs: str, shape: torch.Size) -> Sequence[int | None]:
    return range(shape[0]) if "{e}" in theirs else (None,)


def _numbers(theirs: str, config: ModelConfig) -> Iterable[Mapping[str, int | str]]:
    """Return which layers a name counts: those of the stacks, or the modules that are numbered on from its end."""
    if "{m}" in theirs:
        return ({"m": config.depth + at} for at in range(config.mtp.depth if config.mtp else 0))
    deepest = max(config.depth, config.encoder.depth if config.encoder else 0)
    return ({"l": layer} for layer in range(deepest if "{l}" in theirs else 1))


def _fill(name: str, numbers: Mapping[str, int | str]) -> str:
    """Put numbers, multiplied and moved as the name says, in the place of {l}, {l*2}, {l*2+1}; others stay."""

    def number(found: re.Match[str]) -> str:
        value = numbers.get(found[1], found[0])
        return str(value * int(found[2] or 1) + int(found[3] or 0)) if isinstance(value, int) else value

    return re.sub(r"\{(\w+)(?:\*(\d+))?(?:\+(\d+))?\}", number, name)


def _bound(op: Op | Interleaved, config: ModelConfig) -> Op:
    if not isinstance(op, Interleaved):
        return op
    groups = _at(op.groups, config)
    assert isinstance(groups, int)
    return op.bind(groups)


def _at(path: str, config: ModelConfig) -> Any:
    """Return the value at a dotted path of a config."""
    value: Any = config.to_dict()
    for step in path.split("."):
        value = value[step]
    return value


def layers(theirs: str, ours: str, names: Iterable[tuple[str, str]], when: tuple[str, ...] = ()) -> tuple[Rule, ...]:
    """Return one rule per pair of names under a common prefix, for weight and bias."""
    return tuple(Rule(f"{theirs}{a}.{p}", f"{ours}{b}.{p}", when=when) for a, b in names for p in ("weight", "bias"))
