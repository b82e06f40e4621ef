"""What a report is made of, before it becomes HTML."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Json = dict[str, Any]
Tone = Literal["good", "bad", "plain"]


class Words(NamedTuple):
    """The same text in both languages of the page."""

    en: str
    ko: str


def same(text: str) -> Words:
    """Return a text that is not translated."""
    return Words(text, text)


class Remark(NamedTuple):
    """A sentence computed from the data, and whether it is good news."""

    tone: Tone
    text: Words


@dataclass(frozen=True)
class Table:
    """Rows of cells; numbers stay numbers until they are shown."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def csv(self) -> str:
        """Return the table as CSV; a cell that a spreadsheet would run as a formula is defused."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_defused(cell) for cell in row] for row in self.rows)
        return text.getvalue()


@dataclass(frozen=True)
class Plot:
    """One chart as Plotly JSON; `log` offers a switch to a logarithmic y axis."""

    name: str
    title: Words
    data: list[Json]
    layout: Json
    wide: bool = False
    log: bool = False

    def to_json(self) -> Json:
        """Return what Plotly draws."""
        return {"data": self.data, "layout": self.layout}


@dataclass(frozen=True)
class Figure:
    """Charts that belong together, and the table that says the same in numbers."""

    name: str
    plots: tuple[Plot, ...]
    table: Table
    note: Words | None = None


@dataclass(frozen=True)
class Example:
    """What a model was asked, what would be right, and what it said: (who, answer, right or not) each."""

    task: str
    prompt: str
    expected: str
    answers: tuple[tuple[str, str, bool | None], ...]


@dataclass(frozen=True)
class Origin:
    """Where a section's figures come from: its folder, its hash, and the steps that it was made from."""

    folder: str
    digest: str
    created: str
    seconds: float | None
    inputs: Mapping[str, str]


@dataclass(frozen=True)
class Section:
    """One stage on the page."""

    id: str
    title: Words
    what: Words
    facts: Sequence[tuple[Words, str]] = ()
    remarks: Sequence[Remark] = ()
    figures: Sequence[Figure] = ()
    examples: Sequence[Example] = ()
    commands: Sequence[str] = ()
    origins: Sequence[Origin] = ()

    def file(self, name: str) -> str:
        """Return the file name of a figure or plot: that of the step comes first, so that no two steps share one."""
        return name if name == self.id or name.startswith(f"{self.id}-") else f"{self.id}-{name}"


def _defused(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
