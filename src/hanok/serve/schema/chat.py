"""`/v1/chat/completions`: request, whole answer, and the chunks of a stream."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import Field

from hanok.serve.schema.common import MAX_LOGPROBS, Count, PromptLogprobs, Reply, SamplingFields, Usage, Wire
from hanok.serve.schema.tool import NamedTool, Tool, ToolCall, ToolCallDelta

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
    reasoning_content: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None

    @pydantic.model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls belong to messages of the assistant")
        if self.content is None and not self.tool_calls:
            raise ValueError("content is required: a string, or a list of text parts")
        return self

    def plain(self) -> dict[str, Any]:
        """Return the message as the chat format takes it: parts joined, `developer` under its older name."""
        parts = self.content if isinstance(self.content, list) else []
        text = self.content if isinstance(self.content, str) else "".join(part.text or "" for part in parts)
        message: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": text}
        if self.role == "assistant" and self.reasoning_content:
            message["reasoning_content"] = self.reasoning_content
        if self.tool_calls:
            message["tool_calls"] = [call.plain() for call in self.tool_calls]
        if self.role == "tool" and self.tool_call_id:
            message["tool_call_id"] = self.tool_call_id
        return message


class ChatRequest(SamplingFields):
    """A conversation, and how to continue it."""

    refused: ClassVar[dict[str, tuple[Any, ...]]] = SamplingFields.refused | {
        "audio": (None,),
        "chat_template": (None,),
        "echo": (None, False),
        "function_call": (None, "none"),
        "functions": (None, []),
        "modalities": (None, ["text"]),
        "reasoning_effort": (None,),
        "web_search_options": (None,),
    }

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: Annotated[dict[str, Any], Field(max_length=16)] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    @pydantic.model_validator(mode="after")
    def _choice_is_there(self) -> Self:
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise ValueError("tools must have different names")
        if self.tool_choice not in (None, "none") and not names:
            if self.tool_choice != "auto":
                raise ValueError("tool_choice needs tools to choose from")
        elif isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError("tool_choice names a function that is not among the tools")
        return self

    @pydantic.model_validator(mode="after")
    def _continues_or_begins(self) -> Self:
        if self.continue_final_message and self.messages[-1].role != "assistant":
            raise ValueError("continue_final_message needs a last message of the assistant")
        if bool(self.continue_final_message) == (self.add_generation_prompt is not False):
            if self.continue_final_message and self.add_generation_prompt:
                raise ValueError("add_generation_prompt and continue_final_message exclude each other")
            if not self.continue_final_message and self.add_generation_prompt is False:
                raise ValueError("add_generation_prompt may only be false with continue_final_message")
        return self

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
    def offered(self) -> list[dict[str, Any]]:
        """The tools that the model may call, as chat formats take them."""
        return [] if self.tool_choice == "none" else [tool.plain() for tool in self.tools or ()]

    @property
    def forced(self) -> list[str]:
        """The names of the tools one of which must be called, none where the model is free."""
        if isinstance(self.tool_choice, NamedTool):
            return [self.tool_choice.function.name]
        return [tool.function.name for tool in self.tools or ()] if self.tool_choice == "required" else []

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
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


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
    prompt_logprobs: PromptLogprobs | None = None


class Delta(Reply):
    """What a chunk adds to the message."""

    role: str = "assistant"
    content: str = ""
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


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
