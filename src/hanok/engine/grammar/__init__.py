"""Grammars: which texts an answer may be, as JSON schema, regular expression, choice or context-free grammar.

A request names one as `{kind: value}`, such as `{"regex": "[0-9]+"}`. What it allows is compiled for a tokenizer by
`Compiler` and followed token by token by a `Matcher`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from hanok.core.errors import UsageError
from hanok.core.registry import Registry


class GrammarKind(Protocol):
    """A way to write a grammar down: a value becomes text, checked against limits, and text what the library reads."""

    limit: ClassVar[int]  # bytes of text

    @staticmethod
    def text(value: Any) -> str: ...

    @staticmethod
    def rules(text: str) -> str: ...


GRAMMARS: Registry[type[GrammarKind]] = Registry("grammar", __name__)


@dataclass(frozen=True)
class Grammar:
    """A grammar as plain text; equal ones are compiled once."""

    kind: str
    text: str

    @classmethod
    def of(cls, value: Any) -> Grammar:
        """Return the grammar of `{kind: value}`, or say what about it cannot be used."""
        if isinstance(value, Grammar):
            return value
        if not isinstance(value, Mapping) or len(value) != 1 or not all(isinstance(key, str) for key in value):
            known = ", ".join(sorted(GRAMMARS))
            raise UsageError(f"grammar must be one kind and its value, such as {{'regex': '[0-9]+'}} (kinds: {known})")
        ((kind, given),) = value.items()
        return cls(kind, check_size(GRAMMARS[kind].text(given), kind, GRAMMARS[kind].limit))


def check_size(text: str, what: str, limit: int) -> str:
    """Return the text of a grammar, or refuse one of more than `limit` bytes or with a lone surrogate."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{what}: a lone surrogate is no Unicode text; drop it or replace it") from None
    if size > limit:
        raise UsageError(f"{what} has {size} bytes; at most {limit} are compiled")
    return text


def string(value: Any, what: str) -> str:
    """Return a value that must be a string with something in it."""
    if not isinstance(value, str) or not value:
        raise UsageError(f"{what} must be a string with something in it, not {type(value).__name__}")
    return value
