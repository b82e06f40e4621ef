"""What a family is: rows that translate a config and tensor names, each row readable in both directions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hanok.core.errors import UsageError
from hanok.core.json_file import clip
from hanok.model.config import ModelConfig
from hanok.model.families.rule import Rule

Json = dict[str, Any]
WRONG = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)  # what wrong types and values lead to


class Row(Protocol):
    """One fact of a config, in their words and in ours."""

    def read(self, theirs: Json, ours: Json) -> None: ...
    def write(self, ours: Json, theirs: Json) -> None: ...


@dataclass(frozen=True)
class Key:
    """Their key holds the value that ours keeps at one or more dotted paths."""

    theirs: str
    ours: tuple[str, ...]
    default: Any = None  # what an absent key means; REQUIRED refuses to guess
    read_as: Callable[[Any], Any] = lambda value: value
    write_as: Callable[[Any], Any] = lambda value: value

    def read(self, theirs: Json, ours: Json) -> None:
        value = theirs.get(self.theirs, self.default)
        if value is REQUIRED:
            raise UsageError(f"config.json has no {self.theirs!r}")
        for path in self.ours:
            put(ours, path, self.read_as(value))

    def write(self, ours: Json, theirs: Json) -> None:
        theirs[self.theirs] = self.write_as(get(ours, self.ours[0]))


REQUIRED = object()


@dataclass(frozen=True)
class Always:
    """A key for which this family has one value that we compute; any other is refused."""

    theirs: str
    value: Any
    also: tuple[Any, ...] = ()

    def read(self, theirs: Json, ours: Json) -> None:
        found = theirs.get(self.theirs, self.value)
        if found != self.value and found not in self.also:
            raise UsageError(f"config.json: {self.theirs} = {found!r} is not supported, only {self.value!r}")

    def write(self, ours: Json, theirs: Json) -> None:
        theirs[self.theirs] = self.value


@dataclass(frozen=True)
class Family:
    """A published architecture: its names, a skeleton of our config, and the two tables.

    `base` is the prefix that names lack in files of the bare model, without a head ("model.", say). A model that this
    family and the one it `extends` can both express is written as that one.
    """

    model_type: str
    architecture: str
    skeleton: Mapping[str, Any]
    config: tuple[Row, ...]
    weights: tuple[Rule, ...]
    base: str = ""
    extends: str = ""

    def read_config(self, theirs: Mapping[str, Any]) -> ModelConfig:
        """Return our config of their config.json."""
        ours: Json = _copy(self.skeleton)
        for row in self.config:
            _read(row, theirs, ours)
        try:
            return ModelConfig.parse(ours, where="config.json")
        except UsageError as error:
            keys = [key for key, value in theirs.items() if f"(got {clip(value)})" in str(error)]
            raise UsageError(f"{error}" + (f"; see {', '.join(keys)}" if keys else "")) from None

    def write_config(self, config: ModelConfig) -> Json | None:
        """Return their config.json, or None where this family cannot say what the config says."""
        theirs: Json = {"model_type": self.model_type, "architectures": [self.architecture]}
        ours = config.to_dict()
        try:
            for row in self.config:
                row.write(ours, theirs)
            again = self.read_config(theirs)
        except (KeyError, TypeError, UsageError):
            return None
        return theirs if again == config else None


def _read(row: Row, theirs: Mapping[str, Any], ours: Json) -> None:
    """Read a row; rows reckon with what the keys hold, which a damaged file makes impossible in ways without number."""
    before = copy.deepcopy(ours)
    try:
        row.read(dict(theirs), ours)
    except UsageError:
        raise
    except WRONG as error:
        keys = [key for key in theirs if _differs(row, theirs, key, copy.deepcopy(before), error)]
        keys.sort(key=lambda key: type(theirs[key]) is int and theirs[key] > 0)  # the others are likelier to be wrong
        told = " or ".join(f"{key} = {clip(theirs[key])}" for key in keys[:3]) or "what its keys hold together"
        raise UsageError(f"config.json: {told} cannot be read ({error})") from None


def _differs(row: Row, theirs: Mapping[str, Any], key: str, ours: Json, error: Exception) -> bool:
    """Say whether an error goes away with a key, so that the key may be to blame."""
    try:
        row.read({name: value for name, value in theirs.items() if name != key}, ours)
    except WRONG as other:
        return (type(other), str(other)) != (type(error), str(error))
    return True


def get(data: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path; a missing step is a `KeyError`."""
    value: Any = data
    for step in path.split("."):
        if not isinstance(value, Mapping):
            raise KeyError(path)
        value = value[step]
    return value


def put(data: Json, path: str, value: Any) -> None:
    """Set the value at a dotted path, making mappings on the way."""
    *steps, last = path.split(".")
    for step in steps:
        data = data.setdefault(step, {})
    data[last] = value


def _copy(data: Mapping[str, Any]) -> Json:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in data.items()}
