"""Anthropic's `/v1/messages` and `/v1/messages/count_tokens`: what clients send, as a conversation that we continue."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import Field

from hanok.serve.schema.common import MAX_COUNT, MAX_STOPS, Body, Count, StopText, Wire
from hanok.serve.schema.tool import ToolName

TEXTS = ("text",)


class Block(Wire):
    """One block of a message's content: text, thoughts, a call of a tool, or what a tool gave back."""

    type: Literal["text", "thinking", "redacted_thinking", "tool_use", "tool_result"]
    text: str | None = None
    thinking: str | None = None
    id: Annotated[str, Field(max_length=256)] | None = None
    name: ToolName | None = None
    input: dict[str, Any] | None = None
    tool_use_id: Annotated[str, Field(max_length=256)] | None = None
    content: str | list[dict[str, Any]] | None = None

    @pydantic.model_validator(mode="after")
    def _is_whole(self) -> Self:
        needed = {"text": ("text",), "thinking": ("thinking",), "tool_use": ("id", "name", "input")}
        for name in (*needed.get(self.type, ()), *(("tool_use_id",) if self.type == "tool_result" else ())):
            if getattr(self, name) is None:
                raise ValueError(f"a block of type {self.type} needs {name}")
        if isinstance(self.content, list):
            _text_of(self.content, "tool_result")
        return self


class Turn(Wire):
    """One turn; consecutive turns of a role are allowed."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]

    def messages(self) -> list[dict[str, Any]]:
        """Return the turn as messages of the chat endpoint: what tools gave back comes first, each in its own."""
        if isinstance(self.content, str):
            return [{"role": self.role, "content": self.content}]
        results = [
            {"role": "tool", "tool_call_id": block.tool_use_id, "content": _text_of(block.content, "tool_result")}
            for block in self.content
            if block.type == "tool_result"
        ]
        message: dict[str, Any] = {
            "role": self.role,
            "content": "".join(block.text or "" for block in self.content if block.type == "text"),
        }
        thought = "".join(block.thinking or "" for block in self.content if block.type == "thinking")
        calls = [
            {"id": block.id, "function": {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}}
            for block in self.content
            if block.type == "tool_use"
        ]
        message |= {"reasoning_content": thought} if thought and self.role == "assistant" else {}
        message |= {"tool_calls": calls} if calls else {}
        alone = results and not message["content"] and not calls
        return results if alone else [*results, message]


class MessageTool(Wire):
    """A tool of the client's own."""

    type: Literal["custom"] | None = None
    name: ToolName
    description: Annotated[str, Field(max_length=65536)] | None = None
    input_schema: dict[str, Any]


class MessageToolChoice(Wire):
    """Whether and which tool must be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool | None = None

    @pydantic.model_validator(mode="after")
    def _tool_has_a_name(self) -> Self:
        if self.type == "tool" and self.name is None:
            raise ValueError("tool_choice of type tool needs name")
        return self


class Thinking(Wire):
    """Whether thoughts are shown; how long they are is up to the model."""

    type: Literal["enabled", "disabled", "adaptive"]


class CountRequest(Body):
    """A conversation whose tokens are to be counted."""

    refused: ClassVar[dict[str, tuple[Any, ...]]] = {"mcp_servers": (None, []), "container": (None,)}

    messages: Annotated[list[Turn], Field(min_length=1, max_length=4096)]
    system: str | list[dict[str, Any]] | None = None
    tools: Annotated[list[MessageTool], Field(max_length=128)] | None = None
    tool_choice: MessageToolChoice | None = None
    thinking: Thinking | None = None

    @pydantic.field_validator("system")
    @classmethod
    def _is_text(cls, system: str | list[dict[str, Any]] | None) -> str | list[dict[str, Any]] | None:
        if isinstance(system, list):
            _text_of(system, "system")
        return system

    @property
    def thoughts_shown(self) -> bool:
        """Whether the client asked for thinking blocks."""
        return self.thinking is not None and self.thinking.type != "disabled"

    def chat(self) -> dict[str, Any]:
        """Return the request as a body of the chat endpoint."""
        system = _text_of(self.system, "system")
        turns = [message for turn in self.messages for message in turn.messages()]
        body: dict[str, Any] = {
            "messages": ([{"role": "system", "content": system}] if system else []) + turns,
            "tools": [_tool(tool) for tool in self.tools or ()] or None,
        }
        if turns[-1]["role"] == "assistant":  # a reply that was begun
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        choice = self.tool_choice
        if choice is not None:
            named = {"type": "function", "function": {"name": choice.name}}
            body["tool_choice"] = {"any": "required", "tool": named}.get(choice.type, choice.type)
            body["parallel_tool_calls"] = not choice.disable_parallel_tool_use
        return body


class MessagesRequest(CountRequest):
    """A conversation, and how to continue it."""

    max_tokens: Count
    stop_sequences: Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=MAX_COUNT)] | None = None

    def chat(self) -> dict[str, Any]:
        """Return the request as a body of the chat endpoint."""
        own = {name: getattr(self, name) for name in ("max_tokens", "temperature", "top_p", "top_k", "model")}
        return {**super().chat(), **own, "stop": self.stop_sequences}


def _tool(tool: MessageTool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": function}


def _text_of(content: str | list[dict[str, Any]] | None, where: str) -> str:
    """Return the text of a content that may be given in blocks; only text can be read."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = [block.get("text") if block.get("type") in TEXTS else None for block in content]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: only text blocks are supported")
    return "".join(map(str, texts))
