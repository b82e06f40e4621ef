"""`/v1/completions`: text or token ids in, text out; the same reply shape for whole answers and stream chunks."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self, cast

import pydantic
from pydantic import Field

from hanok.serve.schema.common import (
    MAX_CHOICES,
    MAX_LOGPROBS,
    MAX_PROMPTS,
    PromptLogprobs,
    Reply,
    SamplingFields,
    TokenId,
    Usage,
)

TokenPrompt = Annotated[list[TokenId], Field(min_length=1)]


class CompletionRequest(SamplingFields):
    """One prompt or many, as text or as token ids, and how to continue each."""

    refused: ClassVar[dict[str, tuple[Any, ...]]] = SamplingFields.refused | {"suffix": (None, "")}

    prompt: (
        str
        | TokenPrompt
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]
        | Annotated[list[TokenPrompt], Field(min_length=1, max_length=MAX_PROMPTS)]
    )
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None

    @pydantic.model_validator(mode="after")
    def _best_of_holds_n(self) -> Self:
        if self.drawn < self.choices:
            raise ValueError("best_of must be at least n")
        if self.drawn > self.choices and self.stream:
            raise ValueError("best_of above n needs whole answers: leave stream out")
        return self

    @property
    def drawn(self) -> int:
        """How many answers are drawn per prompt, of which the best `n` are told."""
        return self.choices if self.best_of is None else self.best_of

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, each a string or a list of token ids."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if isinstance(prompt[0], int):
            return [prompt]
        return cast("list[str | list[int]]", prompt)


class CompletionLogprobs(Reply):
    """Parallel lists, one entry per token; the first token of an echoed prompt has no log-probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(Reply):
    """One answer, or one piece of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None
    prompt_logprobs: PromptLogprobs | None = None


class Completion(Reply):
    """A whole answer or one event of a stream."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
