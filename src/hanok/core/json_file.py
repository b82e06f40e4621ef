"""JSON files from outside: an object of bounded size and depth, or an error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hanok.core.errors import UsageError

MIB = 1 << 20
DEEPEST = 32  # levels of nesting: what reads, copies and writes such data goes down level by level
LARGEST = 1 << 128  # of whole numbers (tokenizers without a limit say 10^30), so that each is a float too
LONGEST = 300  # characters of a value that an error message repeats


def read_json(file: Path, *, limit: int = 4 * MIB) -> dict[str, Any]:
    """Return the JSON object of a file of at most `limit` bytes.

    A repeated key, a number without end and text that is no Unicode are refused like broken JSON.
    """
    return parse_json(read_bytes(file, limit=limit), where=str(file))


def read_bytes(file: Path, *, limit: int) -> bytes:
    """Return the bytes of a plain file of at most `limit`."""
    try:
        if not file.is_file():
            raise UsageError(f"{file} is no file")
        with file.open("rb") as stream:
            data = stream.read(limit + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{file} cannot be read: {error}") from None
    if len(data) > limit:
        raise UsageError(f"{file} has more than {limit // MIB} MiB: no such file needs as many")
    return data


def read_text(file: Path, *, limit: int) -> str:
    """Return the text of a plain file of at most `limit` bytes."""
    try:
        return read_bytes(file, limit=limit).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} cannot be read as UTF-8: {error}") from None


def parse_json(text: bytes, *, where: str) -> dict[str, Any]:
    """Return the JSON object that bytes spell; `where` names their source in errors."""
    try:
        data = json.loads(text.decode(), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} cannot be read as JSON: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{where} must hold a JSON object, not {clip(data)}")
    _check(data, where)
    return data


def clip(value: object) -> str:
    """Return how a value looks, cut to what a message can carry."""
    text = repr(value) if isinstance(value, str | int | float | bytes | None) else repr(_head(value))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _head(value: Any) -> Any:
    """Return the first items of a long list, so that nobody spells out the rest."""
    return [*value[:LONGEST], ...] if isinstance(value, list | tuple) and len(value) > LONGEST else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {clip(twice)} is there twice")
    return data


def _check(data: dict[str, Any], where: str) -> None:
    """Walk the data level by level, without recursion."""
    level: list[tuple[str, Any]] = list(data.items())
    for _ in range(DEEPEST):
        below: list[tuple[str, Any]] = []
        for key, value in level:
            if isinstance(value, dict):
                below.extend(value.items())
            elif isinstance(value, list):
                below.extend((key, item) for item in value)
            elif isinstance(value, int) and not -LARGEST <= value < LARGEST:
                raise UsageError(f"{where}: {clip(key)} is too large a number")
            if not all(map(_sound, (key, value) if isinstance(value, str) else (key,))):
                raise UsageError(f"{where}: {clip(key)} holds a lone surrogate, which is no Unicode text")
        if not below:
            return
        level = below
    raise UsageError(f"{where}: {clip(level[0][0])} is nested more than {DEEPEST} levels deep")


def _sound(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
