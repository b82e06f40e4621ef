"""What a family is: rows that translate a config and tensor names, each row readable in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig

Json = dict[str, Any]


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
class Rule:
    """Their tensor name, ours, and what happens on the way; `{l}` stands for a layer's number.

    `same` moves it, `drop` ignores it (a buffer that we compute), `tied` ignores it where embeddings are tied.
    """

    theirs: str
    ours: str = ""
    op: Literal["same", "drop", "tied"] = "same"


@dataclass(frozen=True)
class Family:
    """A published architecture: its names, a skeleton of our config, and the two tables."""

    model_type: str
    architecture: str
    skeleton: Mapping[str, Any]
    config: tuple[Row, ...]
    weights: tuple[Rule, ...]

    def read_config(self, theirs: Mapping[str, Any]) -> ModelConfig:
        """Return our config of their config.json."""
        ours: Json = _copy(self.skeleton)
        for row in self.config:
            row.read(dict(theirs), ours)
        return ModelConfig.parse(ours, where="config.json")

    def write_config(self, config: ModelConfig) -> Json | None:
        """Return their config.json, or None where this family cannot say what the config says."""
        theirs: Json = {"model_type": self.model_type, "architectures": [self.architecture]}
        try:
            for row in self.config:
                row.write(config.to_dict(), theirs)
            again = self.read_config(theirs)
        except (KeyError, UsageError):
            return None
        return theirs if again == config else None

    def our_name(self, theirs: str, *, tied: bool) -> str | None:
        """Return our name of their tensor, None where it is to be ignored; an unknown name is a `KeyError`."""
        base, suffix = _split_scale(theirs)
        for rule in self.weights:
            if found := _pattern(rule.theirs).fullmatch(base):
                if rule.op == "drop" or (rule.op == "tied" and tied):
                    return None
                return _fill(rule.ours, found.groupdict()) + suffix
        raise KeyError(theirs)

    def their_name(self, ours: str) -> str:
        """Return their name of our tensor; an unknown name is a `KeyError`."""
        base, suffix = _split_scale(ours)
        for rule in self.weights:
            if rule.ours and (found := _pattern(rule.ours).fullmatch(base)):
                return _fill(rule.theirs, found.groupdict()) + suffix
        raise KeyError(ours)


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


def layers(theirs: str, ours: str, names: Iterable[tuple[str, str]]) -> tuple[Rule, ...]:
    """Return one `same` rule per pair of names under a common prefix."""
    return tuple(Rule(theirs + a, ours + b) for a, b in names)


def _split_scale(name: str) -> tuple[str, str]:
    """Split the suffix of a packed weight's scales off, which travel with the weight."""
    return (name.removesuffix("_scale"), "_scale") if name.endswith(".weight_scale") else (name, "")


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w)\\\}", r"(?P<\1>[0-9]+)", re.escape(name)))


def _fill(name: str, at: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w)\}", lambda found: at[found[1]], name)


def _copy(data: Mapping[str, Any]) -> Json:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in data.items()}
