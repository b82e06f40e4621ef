"""What a client may tell a foreign template besides the conversation: known words, with values that can do no harm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hanok.core.errors import UsageError, suggest

# The words that published templates read. Anything else could stand for a variable that the template sets itself.
KNOWN: dict[str, type] = {
    "enable_thinking": bool,
    "thinking": bool,
    "preserve_thinking": bool,
    "clear_thinking": bool,
    "add_vision_id": bool,
    "reasoning_effort": str,
    "thinking_budget": int,
    "date_string": str,
    "model_identity": str,
}
LONGEST = 256  # characters of a value
WORD = re.compile(r"\w+")


def check_options(options: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the options, each of which the template must read, or say which one is wrong."""
    read = set(WORD.findall(source)) if options else set()
    for name, value in options.items():
        if name not in KNOWN:
            raise UsageError(f"{str(name)[:80]!r} is no option of a chat template{suggest(name, KNOWN)}")
        if type(value) is not KNOWN[name] or (isinstance(value, str) and len(value) > LONGEST):
            bound = f" of at most {LONGEST} characters" if KNOWN[name] is str else ""
            raise UsageError(f"{name} must be a {KNOWN[name].__name__}{bound}")
        if name not in read:
            raise UsageError(f"this model's chat template does not read {name}")
    return dict(options)
