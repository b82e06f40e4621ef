"""What a client may ask of an answer's form and wording: structured output, biases, forbidden words."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from hanok.serve.schema.wire import Wire

MAX_BIASES = 1024
MAX_WORDS = 256

Bias = Annotated[float, Field(ge=-100, le=100)]
Bounded = Annotated[str, Field(min_length=1, max_length=65_536)]
Choices = Annotated[list[Bounded], Field(min_length=1, max_length=1024)]
Schema = dict[str, Any] | bool | Annotated[str, Field(min_length=2, max_length=262_144)]
TokenBias = Annotated[str, Field(pattern=r"^[0-9]{1,10}$")]


class NamedSchema(Wire):
    """A JSON schema under a name, as OpenAI's clients send it; every schema is kept strictly."""

    name: Annotated[str, Field(max_length=256)] | None = None
    schema_: Schema | None = Field(default=None, alias="schema")


class ResponseFormat(Wire):
    """The form of an answer: text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @pydantic.model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("response_format: json_schema is needed with type json_schema, and only with it")
        return self

    @property
    def grammar(self) -> dict[str, Any] | None:
        """The engine's grammar of this form, None for plain text."""
        if self.json_schema is not None and self.json_schema.schema_ is not None:
            return {"json_schema": self.json_schema.schema_}
        return None if self.type == "text" else {"json_object": True}


class Structured(Wire):
    """The form of an answer in vLLM's words; exactly one is given."""

    json_: Schema | None = Field(default=None, alias="json")
    regex: Bounded | None = None
    choice: Choices | None = None
    grammar: Bounded | None = None
    json_object: bool | None = None

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The engine's grammars of what is given."""
        given = {"json_schema": self.json_, "regex": self.regex, "choice": self.choice, "lark": self.grammar}
        asked: list[dict[str, Any]] = [{kind: value} for kind, value in given.items() if value is not None]
        return [*asked, {"json_object": True}] if self.json_object else asked
