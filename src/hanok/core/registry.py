"""Names to things: a folder of small files is the list, and importing the folder fills the registry."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from hanok.core.errors import UsageError, suggest

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One row of `hanok ls`: the word, the first docstring line, and the paper."""

    name: str
    summary: str
    paper: str


class Registry(Generic[T]):
    """The parts of one kind, by the word that a config uses for them.

    `package` is the folder whose modules register the parts; it is imported on first use, so that naming a
    registry costs nothing. A name that is taken is refused, and an unknown one is answered with the nearest.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._items: dict[str, T] = {}
        self._papers: dict[str, str] = {}
        self._discovered = False

    def register(self, name: str, *, paper: str = "") -> Callable[[T], T]:
        """Return a decorator that files an object under `name` and hands it back unchanged."""

        def keep(item: T) -> T:
            if name in self._items:
                raise ValueError(f"{self.kind} {name!r} is already registered by {_home(self._items[name])}")
            self._items[name] = item
            self._papers[name] = paper
            return item

        return keep

    def __getitem__(self, name: str) -> T:
        self._discover()
        if name not in self._items:
            known = ", ".join(sorted(self._items))
            raise UsageError(f"unknown {self.kind} {name!r}{suggest(name, self._items)} (known: {known})")
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._items))

    def __len__(self) -> int:
        self._discover()
        return len(self._items)

    def describe(self) -> list[Entry]:
        """Return name, first docstring line and paper of every part, by name."""
        return [Entry(name, _summary(self._items[name]), self._papers[name]) for name in self]

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            importlib.import_module(f"{self.package}.{module.name}")


def _home(item: object) -> str:
    return str(getattr(item, "__module__", type(item).__module__))


def _summary(item: object) -> str:
    doc = (getattr(item, "__doc__", None) or "").strip()
    return doc.splitlines()[0] if doc else ""
