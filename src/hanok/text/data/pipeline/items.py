"""The items of evaluation sets, and the step that drops documents in which one of them stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from hanok.core.config import Config
from hanok.core.errors import UsageError
from hanok.text.data.decontaminate import Index
from hanok.text.data.document import Page
from hanok.text.data.pipeline.find import find_sources
from hanok.text.data.pipeline.source import SOURCES, source_of
from hanok.text.data.pipeline.steps import Outcome, Step

WHOLE = 1 << 62  # bytes: each file as one segment


class DecontaminateConfig(Config):
    """Evaluation sets, and how much of an item makes a leak."""

    paths: tuple[str, ...] = Field(min_length=1)  # txt, jsonl, parquet, hf:
    columns: tuple[str, ...] = ()  # of a row, that make its text; none means every string in the row
    n: int = Field(default=13, ge=8)  # words, about, in the windows that are compared
    min_share: float = Field(default=0.0, ge=0, le=1)  # of an item's windows; 0 means that one is enough
    max_items: int = Field(default=10, ge=1)  # a window in more items than that is a template


def build_index(config: DecontaminateConfig) -> Index:
    """Read the evaluation sets and index their items, each named by its file and row."""
    found = dict(_items(config))
    if not found:
        raise UsageError(f"{', '.join(config.paths)}: there is no evaluation item with text")
    return Index.build(found.values(), n=config.n, ids=list(found), max_items=config.max_items)


def leak_step(index: Index, min_share: float) -> Step:
    """Return decontamination as a step; the item that leaks is named."""

    def apply(page: Page) -> Outcome:
        leaks = index.find(page.text, min_share=min_share)
        return Outcome(None, "evaluation item", of=leaks[0].item) if leaks else Outcome(page)

    return Step("decontaminate", apply)


def _items(config: DecontaminateConfig) -> Iterator[tuple[str, str]]:
    for path, name in find_sources(config.paths).items():
        source = SOURCES[source_of(path)]()
        for segment in source.cut(path, name, size=WHOLE):
            for row in source.read(segment):
                if row.fields is None:
                    raise UsageError(f"{path}, line {row.number}: {row.detail}")
                text = "\n".join(_strings(_chosen(row.fields, config.columns, Path(path), row.number)))
                if text.strip():
                    yield f"{segment.name}:{row.number}", text


def _chosen(fields: Mapping[str, Any], columns: tuple[str, ...], path: Path, number: int) -> Mapping[str, Any]:
    if not columns:
        return fields
    found = {key: fields[key] for key in columns if key in fields}
    if not found:
        raise UsageError(f"{path}, line {number}: none of the columns {list(columns)} among {list(fields)}")
    return found


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)
