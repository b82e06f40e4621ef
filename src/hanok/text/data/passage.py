"""Long texts in passages, cut where a reader would pause, so that a split or a shuffle can move them apart."""

from __future__ import annotations

from collections.abc import Iterator


def passages(text: str, limit: int) -> Iterator[str]:
    """Yield pieces of at most `limit` characters that join to the text, cut at the largest break there is."""
    start = 0
    while len(text) - start > limit:
        end = start + limit
        for pause in ("\n\n", "\n", " "):
            # A break in the first half would leave crumbs.
            place = text.rfind(pause, start + limit // 2, end)
            if place >= 0:
                end = place + len(pause)
                break
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]
