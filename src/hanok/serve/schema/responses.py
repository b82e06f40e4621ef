"""`/v1/responses`: what clients send, as a conversation that we continue; nothing is kept between requests."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import Field

from hanok.serve.schema.chat import Part, Role
from hanok.serve.schema.common import MAX_LOGPROBS, Body, Count, Wire
from hanok.serve.schema.tool import ToolName


class Item(Wire):
    """One item of the input: a message, a call, what the tool gave back, or earlier thoughts."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Role | None = None
    content: str | list[Part] | None = None
    call_id: Annotated[str, Field(max_length=256)] | None = None
    name: ToolName | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _thoughts_are_left_out(cls, value: Any) -> Any:
        return {"type": "reasoning"} if isinstance(value, dict) and value.get("type") == "reasoning" else value

    @pydantic.model_validator(mode="after")
    def _is_whole(self) -> Self:
        needed = {
            "message": ("role", "content"),
            "function_call": ("call_id", "name", "arguments"),
            "function_call_output": ("call_id", "output"),
        }
        for name in needed.get(self.type, ()):
            if getattr(self, name) is None:
                raise ValueError(f"an item of type {self.type} needs {name}")
        return self

    def message(self) -> dict[str, Any] | None:
        """Return the item as a message of the chat endpoint; thoughts are not sent back to the model."""
        if self.type == "reasoning":
            return None
        if self.type == "function_call":
            call = {"id": self.call_id, "function": {"name": self.name, "arguments": self.arguments}}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        if self.type == "function_call_output":
            return {"role": "tool", "tool_call_id": self.call_id, "content": _plain(self.output)}
        return {"role": self.role, "content": _plain(self.content)}


class ResponseTool(Wire):
    """A function that may be called."""

    type: Literal["function"]
    name: ToolName
    description: Annotated[str, Field(max_length=65536)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedChoice(Wire):
    """The function that must be called."""

    type: Literal["function"]
    name: ToolName


class Format(Wire):
    """What the text may be: anything, a JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]


class TextOptions(Wire):
    """How the text is to be."""

    format: Format | None = None


class ResponsesRequest(Body):
    """An input, and how to answer it."""

    refused: ClassVar[dict[str, tuple[Any, ...]]] = {
        "background": (None, False),
        "context_management": (None, []),
        "conversation": (None,),
        "max_tool_calls": (None,),
        "previous_response_id": (None,),
        "prompt": (None,),
    }

    input: str | Annotated[list[Item], Field(min_length=1, max_length=4096)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    metadata: dict[str, str] | None = None
    truncation: Literal["disabled"] | None = None

    def chat(self) -> dict[str, Any]:
        """Return the request as a body of the chat endpoint."""
        items = [Item(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        turns = _merged([message for item in items if (message := item.message()) is not None])
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        names = ("temperature", "top_p", "parallel_tool_calls", "model")
        body: dict[str, Any] = {"messages": [*system, *turns], **{name: getattr(self, name) for name in names}}
        body["max_completion_tokens"] = self.max_output_tokens
        body["tools"] = [
            {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_none=True)}
            for tool in self.tools or ()
        ] or None
        choice = self.tool_choice
        named = {"type": "function", "function": {"name": choice.name}} if isinstance(choice, NamedChoice) else choice
        body["tool_choice"] = named
        body |= {"logprobs": True, "top_logprobs": self.top_logprobs} if self.top_logprobs is not None else {}
        return body | self._format()

    def _format(self) -> dict[str, Any]:
        form = self.text.format if self.text is not None else None
        if form is None or form.type == "text":
            return {}
        if form.type == "json_object":
            return {"response_format": {"type": "json_object"}}
        return {"response_format": {"type": "json_schema", "json_schema": dict(form.model_extra or {})}}


def _merged(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages with a call put to the text, or the calls, that the same reply had before it."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if turns and "tool_calls" in message and turns[-1]["role"] == "assistant":
            turns[-1].setdefault("tool_calls", []).extend(message["tool_calls"])
        else:
            turns.append(message)
    return turns


def _plain(content: str | list[Part] | None) -> str:
    return content if isinstance(content, str) else "".join(part.text or "" for part in content or ())
