"""Finding the chat format of a model directory: one of ours by its template, otherwise any template it brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hanok.core.errors import UsageError
from hanok.core.json_file import MIB, read_json, read_text
from hanok.text.chat import CHATS
from hanok.text.chat.jinja import JinjaChat
from hanok.text.chat.spec import TEMPLATE, ChatSpec
from hanok.text.tokenizer import Tokenizer

LARGEST = MIB  # bytes of a template


def load_chat(path: str | Path, tokenizer: Tokenizer) -> ChatSpec | None:
    """Return the chat format of a Hugging Face directory, or None if it has none (a base model)."""
    path = Path(path)
    source = _template(path, tokenizer)
    if source is None:
        return None
    for name in CHATS:
        chat = CHATS[name]()
        if chat.template() == source:
            return chat
    try:
        return JinjaChat(source, tokenizer, stop_ids=_stop_ids(path))
    except UsageError as error:
        raise UsageError(f"{path}: {TEMPLATE} or chat_template: {error}") from None


def _template(path: Path, tokenizer: Tokenizer) -> str | None:
    file = path / TEMPLATE
    if file.is_file():
        return read_text(file, limit=LARGEST)
    value: Any = tokenizer.config.get("chat_template")
    if value is None and (path / "chat_template.json").is_file():
        value = read_json(path / "chat_template.json").get("chat_template")
    if isinstance(value, list):  # several by name; "default" is the one for plain conversations
        named = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
        value = named.get("default")
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{path}: chat_template must be a string or a list of named templates")
    if value is not None and len(value) > LARGEST:
        raise UsageError(f"{path}: chat_template has more than {LARGEST // MIB} MiB")
    return value


def _stop_ids(path: Path) -> list[int]:
    file = path / "generation_config.json"
    value = read_json(file).get("eos_token_id") if file.is_file() else None
    ids = value if isinstance(value, list) else [value]
    return [id for id in ids if isinstance(id, int)]
