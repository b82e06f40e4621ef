"""From the rows of a source to pages: the text column, an id that nothing else has, and what is kept beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hanok.core.errors import UsageError, suggest
from hanok.text.data.document import Page
from hanok.text.data.pipeline.config import SourceConfig
from hanok.text.data.pipeline.source import SOURCES, Row, Segment


class Read(NamedTuple):
    """A row as a page, or the reason why it is none; `size` is the bytes of its text (or of the broken row)."""

    id: str
    source: str
    page: Page | None
    reason: str
    size: int
    repaired: int = 0  # halves of characters that were replaced


def read_unit(segments: Sequence[Segment], config: SourceConfig) -> Iterator[Read]:
    """Yield the documents of a unit in order; without `bad_rows: drop` a broken row stops the run, naming its place."""
    for segment in segments:
        for row in SOURCES[segment.source]().read(segment):
            read = _read(row, segment, config)
            if read.page is None and read.reason != "empty" and config.bad_rows == "stop":
                where = f"{segment.path}, {'row' if segment.source in ('parquet', 'hf') else 'line'} {row.number}"
                detail = row.detail or _missing(row.fields or {}, config.column, read.reason)
                raise UsageError(f"{where}: {detail} (bad_rows=drop drops and counts such rows)")
            yield read


def _read(row: Row, segment: Segment, config: SourceConfig) -> Read:
    whole = segment.source == "txt"
    id = segment.name if whole else f"{segment.name}:{row.number}"
    if row.fields is None:
        return Read(id, segment.name, None, row.problem, row.size)
    source = str(row.fields.get(config.source_column or "") or segment.name)
    text = row.fields.get("text" if whole else config.column)
    if text is None:
        return Read(id, source, None, "no text column", 0)
    if not isinstance(text, str):
        return Read(id, source, None, "text is no string", 0)
    text, repaired = _well_formed(text)
    size = len(text.encode())
    if not text.strip():
        return Read(id, source, None, "empty", size, repaired)
    metadata = {key: _plain(row.fields[key]) for key in config.metadata if row.fields.get(key) is not None}
    return Read(id, source, Page(id, text, source, metadata), "", size, repaired)


def _well_formed(text: str) -> tuple[str, int]:
    """Join halves of characters (surrogates) that JSON wrote one by one, and replace those that are alone."""
    try:
        text.encode()
        return text, 0
    except UnicodeEncodeError:
        joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return joined, max(joined.count("\ufffd") - text.count("\ufffd"), 1)


def _plain(value: Any) -> Any:
    """Return a value that JSON holds and UTF-8 carries."""
    if isinstance(value, str):
        return _well_formed(value)[0]
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # JSON knows no other numbers
    if isinstance(value, bool | int):
        return value
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value)


def _missing(fields: dict[str, Any], column: str, reason: str) -> str:
    if reason == "text is no string":
        return f"column {column!r} must hold a string, not {type(fields.get(column)).__name__}"
    return f"no column {column!r} among {list(fields)}{suggest(column, fields)}"
