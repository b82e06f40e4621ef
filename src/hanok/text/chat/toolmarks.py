"""How a chat template writes a tool call: found by having it write one, so that no table of models is needed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from hanok.core.errors import UsageError
from hanok.text.chat.reply import ToolMarks

NAME, KEY, VALUE, SAID = "probed_name", "probed_key", "probed value", "probed answer"
TOOL = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {KEY: {"type": "string"}}, "required": [KEY]},
    },
}
ASK = {"role": "user", "content": "a"}


def find_marks(render: Callable[..., str], specials: Sequence[str]) -> ToolMarks | None:
    """Return the marks of a template, None if it writes no tools or no JSON; special tokens are left out of them.

    The template is asked for the same conversation twice, with a call and with a plain answer: what differs is how a
    call is written.
    """
    if _try(render, [ASK], generation=True) == _try(render, [ASK], generation=True, tools=[TOOL]):
        return None  # the model is never told of its tools
    called, plain = _probe(render, {"role": "assistant", "content": "", "tool_calls": [_call()]}), None
    if called is not None:
        plain = _probe(render, {"role": "assistant", "content": SAID})
    found = None if called is None else _json_around(called, called.rfind(NAME))
    if called is None or plain is None or found is None:
        return None
    start, end, value = found
    listed = isinstance(value, list)
    keys = value[0] if listed else value
    name = next((key for key, item in keys.items() if item == NAME), None)
    arguments = next((key for key, item in keys.items() if KEY in str(item)), None)
    if name is None or arguments is None:
        return None
    head, tail = (_bare(part, specials) for part in plain.partition(SAID)[::2])
    before, behind = _bare(called[:start], specials), _bare(called[end:], specials)
    before = before[_common(head, before) :]
    behind = behind[: len(behind) - _common(tail[::-1], behind[::-1])]
    return ToolMarks(before.lstrip(), behind.rstrip(), name, arguments, listed)


def _probe(render: Callable[..., str], turn: dict[str, Any]) -> str | None:
    return _try(render, [ASK, turn], tools=[TOOL])


def _try(render: Callable[..., str], messages: list[dict[str, Any]], **options: Any) -> str | None:
    try:
        return render(messages, **options)
    except UsageError:
        return None


def _call() -> dict[str, Any]:
    return {"type": "function", "id": "probedcal", "function": {"name": NAME, "arguments": {KEY: VALUE}}}


def _json_around(text: str, at: int) -> tuple[int, int, Any] | None:
    """Return (start, end, value) of the widest JSON value with an object around a place, none if there is no such."""
    decoder = json.JSONDecoder()
    best = None
    for match in re.finditer(r"[\[{]", text[: max(at, 0)]):
        try:
            value, end = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        first = value[0] if isinstance(value, list) and value else value
        if end > at and isinstance(first, dict) and NAME in first.values():
            best = best or (match.start(), end, value)
    return best


def _common(one: str, other: str) -> int:
    """Return how many characters two texts share at their start."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(one), len(other)))


def _bare(text: str, specials: Sequence[str]) -> str:
    """Return a text without special tokens, as a reply's text is shown."""
    for name in sorted(specials, key=len, reverse=True):
        text = text.replace(name, "")
    return text
