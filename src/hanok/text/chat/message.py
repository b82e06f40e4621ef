"""Messages: `{"role": ..., "content": ...}`, checked so that an error names the message and the key."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hanok.core.errors import UsageError, suggest

Message = Mapping[str, Any]


def check_messages(
    messages: object,
    *,
    roles: Collection[str] | None = None,
    extra: bool | Collection[str] = False,
    where: str = "messages",
) -> list[dict[str, Any]]:
    """Return plain messages with string contents, or say which message and which key is wrong.

    `roles` limits the roles; `extra` lets keys besides role and content through (tool calls, reasoning, ...): all of
    them, or the ones that it names. A content that is a list of text parts, as OpenAI clients send it, is joined.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise UsageError(f"{where} must be a list of messages, not {type(messages).__name__}")
    if not messages:
        raise UsageError(f"{where} is empty: a conversation needs at least one message")
    return [_check(message, roles, extra, f"{where}[{i}]") for i, message in enumerate(messages)]


def _check(message: object, roles: Collection[str] | None, extra: bool | Collection[str], where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise UsageError(f"{where} must be an object with 'role' and 'content', not {type(message).__name__}")
    result = {str(key): value for key, value in message.items() if value is not None}
    for key in result:
        if key not in ("role", "content") and extra is not True and key not in (extra or ()):
            raise UsageError(f"{where} has an unknown key {key!r}{suggest(key, ('role', 'content'))}")
    role = result.get("role")
    if not isinstance(role, str) or not role:
        raise UsageError(f"{where}.role must be a non-empty string, not {role!r}")
    if roles is not None and role not in roles:
        raise UsageError(f"{where}.role {role!r} is not one of {', '.join(roles)}{suggest(role, roles)}")
    if "content" not in result and extra and result.keys() - {"role", "name"}:
        return result  # a message may consist of tool calls alone
    return {**result, "content": _text(result.get("content"), f"{where}.content")}


def _text(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise UsageError(f"{where} must be a string, not {type(content).__name__}")
    parts = []
    for i, part in enumerate(content):
        text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise UsageError(f"{where}[{i}] must be a part of type 'text' with a string 'text', not {part!r:.80}")
        parts.append(text)
    return "".join(parts)
