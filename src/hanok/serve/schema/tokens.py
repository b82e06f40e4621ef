"""`/tokenize` and `/detokenize`, with vLLM's names."""

from __future__ import annotations

from typing import Annotated, Self

import pydantic
from pydantic import Field

from hanok.serve.schema.chat import Message
from hanok.serve.schema.common import Body, Reply, TokenId
from hanok.serve.schema.tool import Tool


class TokenizeRequest(Body):
    """A text, or a conversation; `add_special_tokens` is for texts and `add_generation_prompt` for conversations."""

    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True
    return_token_strs: bool | None = None

    @pydantic.model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("prompt or messages: give one of them")
        return self


class TokenizeReply(Reply):
    """The token ids and how many there are."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(Body):
    """Token ids."""

    tokens: list[TokenId]


class DetokenizeReply(Reply):
    """Their text."""

    prompt: str
