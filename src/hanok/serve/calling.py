"""The grammar of a reply that is one call of a tool, written as the model's chat format writes calls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hanok.text.chat.reply import ToolMarks

LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}  # as `json.dumps` writes


def call_grammar(functions: Sequence[Mapping[str, Any]], marks: ToolMarks) -> dict[str, str]:
    """Return the engine's grammar (kind `lark`) of a call of one of the functions with arguments of its schema."""
    calls = [_call(function["name"], f"#/$defs/{at}", marks) for at, function in enumerate(functions)]
    given = [function.get("parameters") or {"type": "object"} for function in functions]
    schema: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
    if marks.listed:
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": 1}
    schema |= {"x-guidance": LAYOUT, "$defs": {str(at): _moved(one, f"#/$defs/{at}") for at, one in enumerate(given)}}
    parts = [json.dumps(marks.opened), "call", json.dumps(marks.closed)]
    start = " ".join(part for part in parts if part != '""')
    return {"lark": f"start: {start}\ncall: %json {json.dumps(schema, ensure_ascii=False)}\n"}


def _call(name: str, arguments: str, marks: ToolMarks) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {marks.name: {"const": name}, marks.arguments: {"$ref": arguments}},
        "required": [marks.name, marks.arguments],
        "additionalProperties": False,
    }


def _moved(schema: Any, place: str) -> Any:
    """Return a schema whose references to its own root point to the place where it is kept now."""
    if isinstance(schema, list):
        return [_moved(item, place) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    moved = {key: _moved(value, place) for key, value in schema.items()}
    target = moved.get("$ref")
    if isinstance(target, str) and target.startswith("#"):
        moved["$ref"] = place + target[1:]
    return moved
