"""Prompts of reinforcement learning: rows of `prompt` and whatever columns the rewards read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanok.core.errors import UsageError, suggest
from hanok.text.chat import ChatSpec
from hanok.text.chat.message import check_messages
from hanok.text.data.read import read_records
from hanok.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A prompt as it stood in the file, as tokens, and its other columns."""

    prompt: Any
    tokens: list[int]
    columns: dict[str, Any]


def read_prompts(file: Path, tokenizer: Tokenizer, chat: ChatSpec, *, length: int) -> list[Prompt]:
    """Read prompts (strings or messages) and encode them; those that leave no room in `length` are left out."""
    prompts = []
    for record in read_records([file]):
        if "prompt" not in record.row:
            raise record.error(f"the column 'prompt' is missing{suggest('prompt', record.row)}")
        value = record.row["prompt"]
        where = f"{record.file}, line {record.line}: prompt"
        messages = (
            [{"role": "user", "content": value}] if isinstance(value, str) else check_messages(value, where=where)
        )
        tokens = chat.encode(tokenizer, messages, generation=True).tokens
        if len(tokens) < length:
            prompts.append(Prompt(value, tokens, {k: v for k, v in record.row.items() if k != "prompt"}))
    if not prompts:
        raise UsageError(f"{file} holds no prompt that fits {length} tokens")
    return prompts


def columns_of(prompts: Sequence[Prompt]) -> dict[str, list[Any]]:
    """Return the columns as lists, None where a row lacks one."""
    names = sorted({name for prompt in prompts for name in prompt.columns})
    return {name: [prompt.columns.get(name) for prompt in prompts] for name in names}
