"""Tools: what a client offers, what a model calls, and the pieces of a call in a stream."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from hanok.serve.schema.common import Reply, Wire

ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class Function(Wire):
    """A function that may be called; `parameters` is a JSON schema of its arguments."""

    name: ToolName
    description: Annotated[str, Field(max_length=65536)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Wire):
    """One entry of `tools`."""

    type: Literal["function"]
    function: Function

    def plain(self) -> dict[str, Any]:
        """Return the tool as chat formats take it."""
        return {"type": "function", "function": self.function.model_dump(exclude_none=True)}


class FunctionName(Wire):
    """A function by its name."""

    name: ToolName


class NamedTool(Wire):
    """A `tool_choice` that names the function which must be called."""

    type: Literal["function"]
    function: FunctionName


class FunctionCall(Wire):
    """A function and its arguments as JSON text."""

    name: ToolName
    arguments: str

    @pydantic.field_validator("arguments")
    @classmethod
    def _is_an_object(cls, text: str) -> str:
        try:
            value = json.loads(text or "{}")
        except (ValueError, RecursionError):
            raise ValueError("arguments must be a JSON object, written as a string") from None
        if not isinstance(value, dict):
            raise ValueError("arguments must be a JSON object, written as a string")
        return text


class ToolCall(Wire):
    """One call that the assistant made."""

    id: Annotated[str, Field(max_length=256)] = ""
    type: Literal["function"] = "function"
    function: FunctionCall

    def plain(self) -> dict[str, Any]:
        """Return the call as chat formats take it, with its arguments as an object."""
        arguments = json.loads(self.function.arguments or "{}")
        call = {"type": "function", "function": {"name": self.function.name, "arguments": arguments}}
        return {"id": self.id, **call} if self.id else call


class FunctionDelta(Reply):
    """What a chunk adds to a call."""

    name: str
    arguments: str


class ToolCallDelta(Reply):
    """A call in a stream, told as a whole once it is certain."""

    index: int
    id: str
    type: str
    function: FunctionDelta
