"""Chat formats: one object owns rendering, the loss mask, stop tokens and parsing, for training and serving alike."""

from __future__ import annotations

from hanok.core.registry import Registry
from hanok.text.chat.spec import ChatSpec as ChatSpec

CHATS: Registry[type[ChatSpec]] = Registry("chat format", __name__)

from hanok.text.chat.load import load_chat as load_chat  # noqa: E402
