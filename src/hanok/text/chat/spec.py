"""What a chat format can do; training, serving and evaluation know no more about it than this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from hanok.core.artifact import atomic_write
from hanok.text.chat.message import Message
from hanok.text.tokenizer import Tokenizer
from hanok.text.trace import Trace

TEMPLATE = "chat_template.jinja"


class ChatSpec(ABC):
    """One chat format: conversation to tokens with roles, and a model's tokens back to a message."""

    @abstractmethod
    def render(self, messages: Sequence[Message], *, generation: bool = False) -> str:
        """Return the conversation as text, for people; `generation` opens the assistant's next turn."""

    @abstractmethod
    def encode(self, tokenizer: Tokenizer, messages: Sequence[Message], *, generation: bool = False) -> Trace:
        """Return the conversation as tokens with spans; contents are plain text whatever they spell."""

    @abstractmethod
    def stops(self, tokenizer: Tokenizer) -> list[int]:
        """Return the tokens that end the assistant's turn."""

    @abstractmethod
    def template(self) -> str:
        """Return the Jinja template that other tools render with, equal to `render` byte for byte."""

    def parse(self, tokenizer: Tokenizer, tokens: Sequence[int]) -> dict[str, str]:
        """Return the message that a model has written, up to the first stop token."""
        stops = set(self.stops(tokenizer))
        end = next((i for i, id in enumerate(tokens) if id in stops), len(tokens))
        return {"role": "assistant", "content": tokenizer.decode(tokens[:end])}

    def save(self, path: str | Path) -> None:
        """Write `chat_template.jinja` into a model directory."""
        atomic_write(Path(path) / TEMPLATE, self.template())
