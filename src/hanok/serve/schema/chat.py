"""`/v1/chat/completions`: request, whole answer, and the chunks of a stream."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import Field

from hanok.serve.schema.common import MAX_LOGPROBS, Count, Reply, SamplingFields, Usage, Wire

Role = Literal["system", "developer", "user", "assistant", "tool"]


class Part(Wire):
    """One part of a message's content; only text is understood."""

    type: str
    text: str | None = None

    @pydantic.model_validator(mode="after")
    def _is_text(self) -> Self:
        if self.type not in ("text", "input_text", "output_text") or self.text is None:
            raise ValueError(f"only text parts are supported, not {self.type[:40]!r}")
        return self


class Message(Wire):
    """One turn of the conversation that is to be continued."""

    role: Role
    content: str | list[Part] | None = None

    @pydantic.model_validator(mode="after")
    def _has_content(self) -> Self:
        if (self.model_extra or {}).get("tool_calls"):
            raise ValueError("tool_calls are not supported")
        if self.content is None:
            raise ValueError("content is required: a string, or a list of text parts")
        return self

    def plain(self) -> dict[str, str]:
        """Return the message as the chat format takes it: parts joined, `developer` under its older name."""
        parts = self.content if isinstance(self.content, list) else []
        text = self.content if isinstance(self.content, str) else "".join(part.text or "" for part in parts)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class ChatRequest(SamplingFields):
    """A conversation, and how to continue it."""

    refused: ClassVar[dict[str, tuple[Any, ...]]] = SamplingFields.refused | {
        "add_generation_prompt": (None, True),
        "audio": (None,),
        "chat_template": (None,),
        "chat_template_kwargs": (None, {}),
        "continue_final_message": (None, False),
        "echo": (None, False),
        "function_call": (None, "none"),
        "functions": (None, []),
        "modalities": (None, ["text"]),
        "reasoning_effort": (None,),
        "response_format": (None, {"type": "text"}),
        "tool_choice": (None, "none", "auto"),
        "tools": (None, []),
        "web_search_options": (None,),
    }

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @pydantic.model_validator(mode="after")
    def _top_needs_logprobs(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs is only allowed when logprobs is true")
        return self

    @property
    def limit(self) -> int | None:
        """The most tokens to generate; the newer name wins."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def top(self) -> int | None:
        """How many alternatives to report per token; None for no log-probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


class TopLogprob(Reply):
    """An alternative at one position; `bytes` is the truth where `token` is half a character."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A chosen token with its alternatives."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Reply):
    """Log-probabilities of one choice, one entry per token."""

    content: list[TokenLogprob]


class ChatMessage(Reply):
    """The assistant's turn."""

    role: str = "assistant"
    content: str


class ChatChoice(Reply):
    """One finished answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatCompletion(Reply):
    """A whole answer."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class Delta(Reply):
    """What a chunk adds to the message."""

    role: str = "assistant"
    content: str = ""


class ChunkChoice(Reply):
    """One choice's part of a chunk."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatChunk(Reply):
    """One event of a stream; `usage` is set (null, then once a value with no choices) only when asked for."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
