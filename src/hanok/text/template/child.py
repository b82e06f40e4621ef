"""The program of the child process: a template and variables in, texts or a reason out, until nobody asks any more."""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import Any

from hanok.core.errors import UsageError
from hanok.text.template import wire
from hanok.text.template.limits import Limits
from hanok.text.template.sandbox import compile_template, render_template

WARM = 8  # compiled templates that are kept

compiled = functools.lru_cache(WARM)(compile_template)


def main() -> None:
    """Answer requests on the standard streams within the limits that the first argument holds."""
    limits = Limits(**json.loads(sys.argv[1]))
    _send({"held": limits.hold()})
    while True:
        try:
            request, text = wire.read(_receive)
        except (EOFError, KeyboardInterrupt):
            return
        except MemoryError:
            _send({"error": "the messages do not fit into the memory of the template's process", "spent": True})
            return
        reply = answer(request, text, limits)
        _send(reply)
        if "spent" in reply:
            return


def answer(request: dict[str, Any], known: str, limits: Limits) -> dict[str, Any]:
    """Return `{"texts": [...]}`, or `{"error": ...}` with `spent` where this process should not go on.

    `known` is the request as JSON: what may be written grows with it, so that no honest template meets the bound.
    """
    source, renderings = request["source"], request["renderings"]
    try:
        with limits.during(len(known)):
            template = compiled(source)
            most = limits.output + 2 * len(known)
            return {"texts": [render_template(template, each, most=most, known=known) for each in renderings]}
    except UsageError as error:
        return {"error": str(error)}
    except MemoryError:
        memory = (limits.memory or 0) // 2**20
        return {"error": f"the chat template was stopped: it needs more than {memory} MB of memory", "spent": True}


def _send(message: dict[str, Any]) -> None:
    view = memoryview(wire.pack(message))
    while view:
        view = view[os.write(1, view) :]


def _receive(count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = os.read(0, min(count - len(data), 2**20))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
