"""Reading data: documents and conversations from txt, jsonl and parquet, in the columns that the field uses."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanok.core.errors import UsageError, require, suggest
from hanok.text.chat.message import check_messages
from hanok.text.data.files import find_files, read_lines, read_text

KNOWN = ("text", "messages", "prompt", "completion", "instruction", "output", "conversations", "chosen", "rejected")
SHAREGPT = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class Record:
    """One row of a file, and where it stands, for error messages."""

    row: dict[str, Any]
    file: Path
    line: int

    def error(self, text: str) -> UsageError:
        """Return an error that names the file and the line."""
        return UsageError(f"{self.file}, line {self.line}: {text}")


@dataclass(frozen=True)
class Document:
    """A text, or a conversation that a chat format will turn into one."""

    text: str = ""
    messages: list[dict[str, Any]] | None = None


def read_records(paths: Sequence[str | Path]) -> Iterator[Record]:
    """Yield the rows of jsonl and parquet files and whole txt files (as `{"text": ...}`)."""
    for file in find_files(paths):
        if file.suffix == ".txt":
            yield Record({"text": read_text(file)}, file, 1)
        elif file.suffix == ".jsonl":
            yield from _jsonl(file)
        else:
            yield from _parquet(file)


def read_documents(paths: Sequence[str | Path], *, column: str = "text") -> Iterator[Document]:
    """Yield documents: rows with a text column, or conversations in one of the known forms; empty ones are dropped."""
    for record in read_records(paths):
        # A txt file has one nameless column.
        value = record.row.get("text" if record.file.suffix == ".txt" else column)
        if isinstance(value, str):
            if value.strip():
                yield Document(text=value)
        elif value is not None:
            raise record.error(f"column {column!r} must hold a string, not {type(value).__name__}")
        else:
            yield Document(messages=conversation(record, column=column))


def read_conversations(paths: Sequence[str | Path]) -> list[list[dict[str, Any]]]:
    """Return the conversations of files in any known form: messages, prompt and completion, Alpaca, ShareGPT."""
    return [conversation(record) for record in read_records(paths)]


def read_preferences(paths: Sequence[str | Path]) -> list[dict[str, list[dict[str, Any]]]]:
    """Return rows of `prompt`, `chosen` and `rejected`, each a list of messages; an implicit prompt is split off."""
    return [_preference(record) for record in read_records(paths)]


def conversation(record: Record, *, column: str = "messages") -> list[dict[str, Any]]:
    """Return a row's conversation as messages, whatever form it has."""
    row, where = record.row, f"{record.file}, line {record.line}: messages"
    if "messages" in row:
        return check_messages(row["messages"], extra=True, where=where)
    if "conversations" in row and isinstance(row["conversations"], list):
        turns = [_sharegpt(record, turn) for turn in row["conversations"]]
        return check_messages(turns, where=where)
    if "prompt" in row and "completion" in row:
        return [*_turns(record, "prompt", "user"), *_turns(record, "completion", "assistant")]
    if "instruction" in row and "output" in row:
        question = "\n\n".join(str(row[key]) for key in ("instruction", "input") if row.get(key))
        return [_message("user", question), _message("assistant", str(row["output"]))]
    hint = next((text for key in row if (text := suggest(key, (column, *KNOWN)))), "")
    raise record.error(
        f"no column {column!r} and no conversation (messages, prompt and completion, ...) in the keys {list(row)}{hint}"
    )


def _preference(record: Record) -> dict[str, list[dict[str, Any]]]:
    for key in ("chosen", "rejected"):
        if key not in record.row:
            raise record.error(f"a preference needs the key {key!r}, it has {list(record.row)}")
    chosen, rejected = _turns(record, "chosen", "assistant"), _turns(record, "rejected", "assistant")
    if "prompt" in record.row:
        return {"prompt": _turns(record, "prompt", "user"), "chosen": chosen, "rejected": rejected}
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    if same == 0 or same == min(len(chosen), len(rejected)):
        raise record.error("without a 'prompt', chosen and rejected must begin with the same messages and then differ")
    return {"prompt": chosen[:same], "chosen": chosen[same:], "rejected": rejected[same:]}


def _turns(record: Record, key: str, role: str) -> list[dict[str, Any]]:
    value = record.row[key]
    if isinstance(value, str):
        return [_message(role, value)]
    return check_messages(value, extra=True, where=f"{record.file}, line {record.line}: {key}")


def _sharegpt(record: Record, turn: Any) -> dict[str, str]:
    if not isinstance(turn, Mapping) or turn.get("from") not in SHAREGPT or not isinstance(turn.get("value"), str):
        raise record.error(f"a turn of 'conversations' needs 'from' ({', '.join(SHAREGPT)}) and 'value': {turn!r:.80}")
    return _message(SHAREGPT[turn["from"]], turn["value"])


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _jsonl(file: Path) -> Iterator[Record]:
    for number, line in read_lines(file):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{file}, line {number}: not valid JSON: {error}") from None
        if not isinstance(row, dict):
            raise UsageError(f"{file}, line {number}: a row must be a JSON object, not {type(row).__name__}")
        # Escapes like \u1100 come to life only in the parser.
        yield Record(_composed(row), file, number)


def _parquet(file: Path) -> Iterator[Record]:
    arrow, parquet = require("pyarrow", extra="data"), require("pyarrow.parquet", extra="data")
    number = 0
    try:
        for batch in parquet.ParquetFile(file).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield Record({key: value for key, value in _composed(row).items() if value is not None}, file, number)
    except (arrow.ArrowException, OSError) as error:
        raise UsageError(f"{file}, after row {number}: not a readable parquet file: {error}") from None


def _composed(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        return {key: _composed(item) for key, item in value.items()}
    return [_composed(item) for item in value] if isinstance(value, list) else value
