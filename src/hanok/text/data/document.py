"""A document on its way to the shards: what is read, judged, edited and counted before there are tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Page:
    """One document: a stable id, its text, the name of its source, and what the source says about it.

    Two pages of one run never share an id; `metadata` holds JSON-able values and is not to be changed in place.
    """

    id: str
    text: str
    source: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


Verdict = str | None
"""Why a page is dropped, in one short phrase that is the same for all pages dropped for it; `None` keeps it."""


class Filter(Protocol):
    """Judges one page, without state, so that the verdict is the same in any process and any order."""

    def __call__(self, page: Page) -> Verdict:
        """Return the reason to drop the page, or `None` to keep it."""
        ...


class Editor(Protocol):
    """Rewrites one page, without state, and counts what it changed."""

    def __call__(self, page: Page) -> tuple[Page, dict[str, int]]:
        """Return the page as it should be, and how often each kind of change was made (only kinds that occurred)."""
        ...
