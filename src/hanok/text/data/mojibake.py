"""Mojibake: UTF-8 that somebody has read as Windows-1252 or Latin-1, turned back into what it was."""

from __future__ import annotations

import re

ROUNDS = 2  # some text went through it twice


def _byte_of() -> dict[str, int]:
    """Return the byte that a sign beyond ASCII stands for in Windows-1252, or in Latin-1 where that has none."""
    table = {chr(byte): byte for byte in range(0x80, 0x100)}
    for byte in range(0x80, 0xA0):
        try:
            table[bytes([byte]).decode("cp1252")] = byte
        except UnicodeDecodeError:
            continue  # five bytes that Windows-1252 leaves out
    return table


BYTE_OF = _byte_of()


def _signs(low: int, high: int) -> str:
    return "".join(sign for sign, byte in BYTE_OF.items() if low <= byte <= high)


_FOLLOW = f"[{re.escape(_signs(0x80, 0xBF))}]"
_SEQUENCE = "|".join(
    f"[{re.escape(_signs(low, high))}]{_FOLLOW}{{{count}}}"
    for low, high, count in ((0xF0, 0xF4, 3), (0xE0, 0xEF, 2), (0xC2, 0xDF, 1))
)
RUN = re.compile(f"(?:{_SEQUENCE})+")
LIKELY = re.compile(f"[{re.escape(_signs(0xC2, 0xF4))}]{_FOLLOW}")
# Quotation marks, dashes, ellipses and spaces do stand behind accented letters; what else follows one is no text.
ORDINARY = frozenset("‘’“”‚„‹›«»–—…•™\u00a0¿¡")


def repair(text: str) -> tuple[str, int]:
    """Return a text with its mojibake turned back, and how many runs of it there were.

    A run of signs is turned back if its bytes are valid UTF-8 and it cannot well be meant: two or more sequences in a
    row, one of four signs, a control code, the `â€` of typographic punctuation, or `Ã` or `Â` before a sign that does
    not follow letters. Once a page has shown one such run, its other valid sequences are turned back too. (The idea of
    reading the bytes back is ftfy's, Speer 2019; the evidence asked for is ours.)
    """
    total = 0
    for _ in range(ROUNDS):
        if text.isascii() or not LIKELY.search(text):
            break
        runs = {run.group(): _decoded(run.group()) for run in RUN.finditer(text)}
        if not any(decoded is not None and _certain(run, decoded) for run, decoded in runs.items()):
            break
        count = 0

        def turn_back(run: re.Match[str], runs: dict[str, str | None] = runs) -> str:
            nonlocal count
            decoded = runs[run.group()]
            count += decoded is not None
            return run.group() if decoded is None else decoded

        text = RUN.sub(turn_back, text)
        total += count
    return text, total


def _decoded(run: str) -> str | None:
    try:
        return bytes(BYTE_OF[sign] for sign in run).decode("utf-8")
    except UnicodeDecodeError:
        return None


def _certain(run: str, decoded: str) -> bool:
    if len(decoded) > 1 or len(run) > 3 or any("\x80" <= sign <= "\x9f" for sign in run):
        return True
    return run.startswith("â€") or (run[0] in "ÃÂ" and run[1] not in ORDINARY)
