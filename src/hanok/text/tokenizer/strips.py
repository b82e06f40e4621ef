"""Coloured strips: a text cut as the tokenizer cuts it, for a terminal; the page draws the same cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle

from hanok.text.tokenizer.measure import unknown_name
from hanok.text.tokenizer.tokenizer import Tokenizer

COLOURS = (153, 223, 157, 219, 229)  # of the 256-colour table: pale, black text reads on each
LOST, UNKNOWN = "\033[38;5;244;4m", "\033[48;5;203;30m"
SIGNS = {"\n": "⏎\n", "\t": "⇥", "\r": "␍"}


@dataclass(frozen=True)
class Cell:
    """A stretch of a text and the tokens that write it.

    No token: the tokenizer drops it. Several: they cut a character apart, so that none of them is a text alone.
    """

    text: str
    ids: tuple[int, ...]
    unknown: bool = False


def cells(tokenizer: Tokenizer, text: str) -> list[Cell]:
    """Return the text as cells, in order; their texts joined are the text."""
    unknown = tokenizer.token_id(unknown_name(tokenizer))
    found: list[tuple[int, int, list[int]]] = []
    for id, start, end in tokenizer.encode_located(text):
        if found and start < found[-1][1]:  # shares a character with the token before
            first, last, ids = found[-1]
            found[-1] = (first, max(last, end), [*ids, id])
        else:
            found.append((start, end, [id]))
    out, at = [], 0
    for start, end, ids in found:
        if start > at:
            out.append(Cell(text[at:start], ()))
        out.append(Cell(text[start:end], tuple(ids), unknown in ids))
        at = end
    return [*out, Cell(text[at:], ())] if at < len(text) else out


def visible(text: str) -> str:
    """Return a text whose control characters show: line breaks, tabs, and the rest as their Unicode pictures."""
    return "".join(SIGNS.get(char) or (chr(0x2400 + ord(char)) if ord(char) < 32 else char) for char in text)


def strip(parts: Iterable[Cell], *, colour: bool) -> str:
    """Return cells for a terminal: colours in turn, or bars between tokens; a number where tokens cut a character.

    What the tokenizer drops is underlined (in braces without colour), what it does not know is red (in brackets).
    """
    out, colours = [], cycle(COLOURS)
    for cell in parts:
        count = str(len(cell.ids)) if len(cell.ids) > 1 else ""
        count = count.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
        shown = visible(cell.text) + count
        if not colour:
            out.append(f"{{{shown}}}" if not cell.ids else f"[{shown}]" if cell.unknown else f"{shown}|")
            continue
        mark = LOST if not cell.ids else UNKNOWN if cell.unknown else f"\033[48;5;{next(colours)};30m"
        # A coloured line break would colour the rest of the terminal's line.
        out.append("\n".join(f"{mark}{line}\033[0m" if line else "" for line in shown.split("\n")))
    return "".join(out)


def count(parts: Sequence[Cell]) -> int:
    """Return how many tokens the cells hold."""
    return sum(len(cell.ids) for cell in parts)
