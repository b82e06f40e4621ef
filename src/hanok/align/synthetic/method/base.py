"""What methods share: how a user's rows are read."""

from __future__ import annotations

from pathlib import Path

from hanok.align.synthetic.ask import Row
from hanok.core.errors import UsageError, suggest
from hanok.text.data.read import Record, conversation


def instruction_row(row: Row, where: str) -> Row:
    """Return `{"instruction", "output"}` of a row that asks something; the answer may be absent."""
    for key in ("instruction", "prompt"):
        if isinstance(row.get(key), str) and not {"completion", "output"} & set(row):
            return {"instruction": with_input(row[key], str(row.get("input") or "")), "output": ""}
    messages = conversation(Record(row, Path(where), 1))
    asked = next((m["content"] for m in messages if m["role"] == "user"), None)
    said = next((m["content"] for m in reversed(messages) if m["role"] == "assistant"), "")
    if not asked:
        raise UsageError(f"{where}: a seed needs an instruction, but the row has no message of a user")
    return {"instruction": str(asked), "output": str(said)}


def text_row(row: Row, where: str) -> Row:
    """Return `{"text"}` of a row that is a document."""
    if not isinstance(row.get("text"), str) or not row["text"].strip():
        raise UsageError(f"{where}: a seed needs the column 'text'{suggest('text', row)}")
    return {"text": row["text"]}


def with_input(instruction: str, given: str) -> str:
    """Return an instruction with what it is to be applied to."""
    return f"{instruction}\n\n{given}" if given else instruction


def instruction_of(row: Row) -> str:
    """Return what a row asks, be it a seed or a row that was kept."""
    return str(row["instruction"])
