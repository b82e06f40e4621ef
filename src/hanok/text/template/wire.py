"""How the two processes speak: JSON behind its length in eight bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

HEAD = 8
LONGEST = 2**30  # bytes of a message; more is no message of ours


def pack(message: dict[str, Any]) -> bytes:
    """Return a message as bytes; lone surrogates, which JSON from the web may hold, go through as they are."""
    data = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return len(data).to_bytes(HEAD, "big") + data


def read(receive: Callable[[int], bytes]) -> tuple[dict[str, Any], str]:
    """Return the next message and its text; `EOFError` where the other side has gone."""
    size = int.from_bytes(receive(HEAD), "big")
    if size > LONGEST:
        raise EOFError("no message")
    text = receive(size).decode("utf-8", "surrogatepass")
    message: dict[str, Any] = json.loads(text)
    return message, text
