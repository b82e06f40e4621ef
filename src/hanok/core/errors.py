"""Errors that people are meant to read, and the exit code that each one means on the command line."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class HanokError(Exception):
    """Something failed that is not a bug; exit code 1."""

    exit_code = 1


class UsageError(HanokError, ValueError):
    """A user's input is wrong: the message says what, where, and what would be right; exit code 2."""

    exit_code = 2


class QualityGateError(HanokError):
    """A measured quality fell below the bar that was asked for; exit code 3."""

    exit_code = 3


class MissingExtraError(UsageError, ImportError):
    """An optional library is needed and absent."""


class Interrupted(HanokError):
    """Stopped by the user after saving; exit code 130."""

    exit_code = 130


def suggest(name: object, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.55)
    return f"; did you mean {near[0]!r}?" if near else ""


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional library, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"this needs the package {module.split('.')[0]!r}, which is not installed: pip install 'hanok[{extra}]'"
        ) from error
