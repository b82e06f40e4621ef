"""From sections to one HTML document that asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from hanok.report.figure.style import thin
from hanok.report.parts import Figure, Remark, Section, Table, Words
from hanok.report.show import figure as shown
from hanok.report.show import moment

ROWS = 40  # of a table on the page; the CSV has more
CSV_ROWS = 4000  # of the download inside the page; figs/*.csv has all
STYLES = ("base.css", "sections.css")


@dataclass(frozen=True)
class Page:
    """Everything that the document says."""

    title: str
    command: str
    header: Sequence[tuple[Words, str]]
    cards: Sequence[tuple[Words, str]]
    sections: Sequence[Section]

    @property
    def remarks(self) -> list[Remark]:
        """Return the verdicts of all sections."""
        return [remark for section in self.sections for remark in section.remarks]


def render(page: Page, plotly: str) -> str:
    """Return the document; only its own scripts may run, and nothing may be fetched."""
    library, script = _script(plotly), _script(_template("page.js"))
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": shown,
        "csv": csv_link,
        "rows": short,
        "embed": embed,
        "cut": cut,
        "moment": moment,
    }
    environment.globals |= {"full": lambda table: len(table.rows) <= CSV_ROWS}
    return environment.get_template("report.html").render(
        page=page,
        style=Markup("\n".join(map(_template, STYLES))),
        library=Markup(library),
        script=Markup(script),
        policy="; ".join(
            (
                "default-src 'none'",
                f"script-src '{_hash(library)}' '{_hash(script)}'",
                "style-src 'unsafe-inline'",
                "img-src data: blob:",
                "base-uri 'none'",
                "form-action 'none'",
            )
        ),
    )


def embed(figure: Figure) -> Markup:
    """Return a figure's plots as JSON that cannot end the script element that holds it."""
    plots = [{"name": plot.name, **plot.to_json()} for plot in figure.plots]
    text = json.dumps(plots, ensure_ascii=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)


def csv_link(table: Table) -> str:
    """Return a data: address that downloads a table."""
    kept = Table(table.columns, [table.rows[i] for i in thin(len(table.rows), CSV_ROWS)])
    return "data:text/csv;charset=utf-8," + quote("\ufeff" + kept.csv())


def short(table: Table) -> list[Sequence[Any]]:
    """Return the rows that the page shows, evenly spaced."""
    return [table.rows[i] for i in thin(len(table.rows), ROWS)]


def cut(text: str, most: int = 600) -> str:
    """Return a text short enough for a page, with its length where it was cut."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def _template(name: str) -> str:
    return (resources.files("hanok.report") / "template" / name).read_text(encoding="utf-8")


def _script(text: str) -> str:
    """Return a script as it can stand inside HTML: the parser would end it at the first closing tag."""
    return "\n" + text.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--") + "\n"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
