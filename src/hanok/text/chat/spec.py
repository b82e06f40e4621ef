"""What a chat format can do; training, serving and evaluation know no more about it than this."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from hanok.core.artifact import atomic_write
from hanok.core.errors import UsageError
from hanok.text.chat.message import Message
from hanok.text.chat.reply import Part, ReplyReader, ToolMarks
from hanok.text.tokenizer import Tokenizer
from hanok.text.trace import Trace

TEMPLATE = "chat_template.jinja"
THINKING = ("<think>", "</think>")  # what reasoning models of all families write around their thoughts
TAIL = 16  # tokens at a prompt's end in which a thought may have been opened

Tool = Mapping[str, Any]


class ChatSpec(ABC):
    """One chat format: conversation to tokens with roles, and a model's tokens back to a message."""

    @abstractmethod
    def render(
        self, messages: Sequence[Message], *, generation: bool = False, tools: Sequence[Tool] | None = None
    ) -> str:
        """Return the conversation as text, for people; `generation` opens the assistant's next turn.

        `tools` are what the assistant may call, `{"type": "function", "function": {name, description, parameters}}`.
        """

    @abstractmethod
    def encode(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        *,
        generation: bool = False,
        tools: Sequence[Tool] | None = None,
    ) -> Trace:
        """Return the conversation as tokens with spans; contents and tools are plain text whatever they spell."""

    @abstractmethod
    def stops(self, tokenizer: Tokenizer) -> list[int]:
        """Return the tokens that end the assistant's turn."""

    @abstractmethod
    def template(self) -> str:
        """Return the Jinja template that other tools render with, equal to `render` byte for byte."""

    def told(self, options: Mapping[str, Any]) -> Self:
        """Return this format with options that its template reads (`enable_thinking`); `UsageError` for any other."""
        if options:
            raise UsageError("this chat format has no options")
        return self

    def tool_marks(self, tokenizer: Tokenizer) -> ToolMarks | None:
        """Return how a reply calls tools in this format, or None if it cannot."""
        return None

    def reader(self, tokenizer: Tokenizer, *, prompt: Sequence[int] = (), tools: bool = True) -> ReplyReader:
        """Return what takes a reply apart as it streams; `prompt` may have opened a thought already."""
        tail = tokenizer.decode(prompt[-TAIL:], skip_special=False) if len(prompt) else ""
        marks = self.tool_marks(tokenizer) if tools else None
        return ReplyReader(THINKING, marks, inside=tail.rstrip().endswith(THINKING[0]))

    def parse(self, tokenizer: Tokenizer, tokens: Sequence[int]) -> dict[str, Any]:
        """Return the message that a model has written, up to the first stop token.

        Thoughts come as `reasoning_content`, calls as `tool_calls` with their arguments as objects.
        """
        stops = set(self.stops(tokenizer))
        end = next((i for i, id in enumerate(tokens) if id in stops), len(tokens))
        reader = self.reader(tokenizer)
        return message_of([*reader.push(tokenizer.decode(tokens[:end])), *reader.finish()])

    def save(self, path: str | Path) -> None:
        """Write `chat_template.jinja` into a model directory."""
        atomic_write(Path(path) / TEMPLATE, self.template())


def message_of(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the parts of a reply as one message."""
    texts = {kind: "".join(part.text for part in parts if part.kind == kind) for kind in ("reasoning", "content")}
    message: dict[str, Any] = {"role": "assistant", "content": texts["content"]}
    if texts["reasoning"]:
        message["reasoning_content"] = texts["reasoning"]
    calls = [part for part in parts if part.kind == "call"]
    if calls:
        message["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": json.loads(call.text)}} for call in calls
        ]
    return message
