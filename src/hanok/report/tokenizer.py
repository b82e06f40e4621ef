"""A tokenizer on one self-contained page: its cost by language and by size, and the cuts that it makes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from hanok.report.figure.style import COLOURS
from hanok.text.tokenizer import Tokenizer
from hanok.text.tokenizer.measure import Cost, Size, premiums
from hanok.text.tokenizer.strips import cells, count, visible

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 280, 48, 810, 14, 244
PALETTE = 5  # classes c0 to c4 of the template


def page(
    tokenizer: Tokenizer,
    languages: Mapping[str, Cost],
    texts: Mapping[str, str],
    *,
    name: str,
    kind: str,
    sizes: Sequence[Size] = (),
) -> str:
    """Return an HTML document that fetches nothing and runs no script; `texts` are the strips, by title."""
    extra = premiums(languages)
    environment = Environment(
        loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("tokenizer.html").render(
        style=Markup(_template("base.css")),
        name=name,
        kind=kind,
        vocab_size=tokenizer.vocab_size,
        languages=[{"language": key, "premium": extra[key], "cost": languages[key]} for key in languages],
        most=max(extra.values(), default=1.0),
        sweep=list(sizes),
        chart=chart(sizes) if sizes else None,
        strips=[_strip(tokenizer, title, text) for title, text in texts.items()],
    )


def chart(sizes: Sequence[Size]) -> dict[str, Any]:
    """Return the lines of bytes per token over vocabulary size (logarithmic), in the drawing's own units."""
    found = [size.cost.bytes_per_token for size in sizes]
    # The axis begins below the smallest value: what is compared is differences, which bars from zero would hide.
    low, high = math.floor(min(found) * 4) / 4, math.ceil(max(found) * 4 + 0.01) / 4
    first, last = (math.log(end(size.vocab_size for size in sizes)) for end in (min, max))

    def place(vocab: int, value: float) -> tuple[float, float]:
        across = (math.log(vocab) - first) / (last - first) if last > first else 0.5
        return round(LEFT + 30 + across * (RIGHT - LEFT - 60), 1), round(
            BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP), 1
        )

    lines = []
    for at, kind in enumerate(dict.fromkeys(size.kind for size in sizes)):
        of_kind = sorted((size for size in sizes if size.kind == kind), key=lambda size: size.vocab_size)
        dots = [place(size.vocab_size, size.cost.bytes_per_token) for size in of_kind]
        path = " ".join(f"{x},{y}" for x, y in dots)
        lines.append({"kind": kind, "colour": COLOURS[at % len(COLOURS)], "dots": dots, "path": path})
    _apart(lines)
    ticks = [low + (high - low) * step / 4 for step in range(5)]
    asked = sorted({size.asked for size in sizes})
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": RIGHT,
        "lines": lines,
        "ys": [(place(1, tick)[1], f"{tick:.2f}") for tick in ticks],
        "xs": [(place(size, low)[0], f"{size:,}") for size in asked],
    }


def _apart(lines: list[dict[str, Any]]) -> None:
    """Give each line's name a height at which it covers no other name."""
    lowest = -math.inf
    for line in sorted(lines, key=lambda line: float(line["dots"][-1][1])):
        lowest = max(line["dots"][-1][1] + 4, lowest + 16)
        line["label_y"] = lowest


def _strip(tokenizer: Tokenizer, title: str, text: str) -> dict[str, Any]:
    parts, out, turn = cells(tokenizer, text), [], 0
    for cell in parts:
        style = "lost" if not cell.ids else "unknown" if cell.unknown else f"c{turn % PALETTE}"
        turn += bool(cell.ids)
        names = " ".join(f"{id}:{tokenizer.token(id)}" for id in cell.ids) or "no token"
        out.append({"text": visible(cell.text), "style": style, "title": names, "count": len(cell.ids)})
    return {"title": title, "tokens": count(parts), "cells": out}


def _template(name: str) -> str:
    return (resources.files("hanok.report") / "template" / name).read_text(encoding="utf-8")
