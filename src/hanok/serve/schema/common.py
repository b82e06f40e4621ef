"""What both completion endpoints share: strict fields with caps, the sampling fields, usage, and known refusals."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import pydantic
from pydantic import Field

from hanok.serve.schema.steering import (
    MAX_BIASES,
    MAX_WORDS,
    Bias,
    Bounded,
    Choices,
    ResponseFormat,
    Schema,
    Structured,
    TokenBias,
)
from hanok.serve.schema.wire import Wire as Wire

MAX_CHOICES = 128
MAX_LOGPROBS = 20
MAX_STOPS = 16
MAX_PROMPTS = 256
MAX_COUNT = 2**31 - 1

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
StopText = Annotated[str, Field(min_length=1, max_length=256)]
TokenId = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class Body(Wire):
    """What every request says: which model, and whether to stream; and what we know but do not do."""

    # Known fields that would change the answer, with the values under which they change nothing.
    refused: ClassVar[dict[str, tuple[Any, ...]]] = {}

    model: Annotated[str, Field(max_length=512)] | None = None
    stream: bool | None = None

    def unsupported(self) -> str | None:
        """Return the first known but unsupported field that is set to a value that would matter."""
        given = self.model_extra or {}
        return next((name for name, harmless in self.refused.items() if given.get(name) not in harmless), None)


class Reply(pydantic.BaseModel):
    """A piece of JSON that we send; fields that were never set are left out."""

    model_config = pydantic.ConfigDict(protected_namespaces=())

    def json_text(self) -> str:
        """Return compact JSON of exactly the fields that were set."""
        return self.model_dump_json(exclude_unset=True)


class StreamOptions(Wire):
    """How a stream is told; only `include_usage` exists."""

    include_usage: bool | None = None


class SamplingFields(Body):
    """The fields that say how tokens are chosen, with the caps that protect everybody else's requests."""

    refused: ClassVar[dict[str, tuple[Any, ...]]] = {
        "guided_decoding_backend": (None, "auto", "guidance"),
        "length_penalty": (None, 1),
        "truncate_prompt_tokens": (None,),
        "use_beam_search": (None, False),
    }

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=MAX_COUNT)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    typical_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[TokenBias, Bias], Field(max_length=MAX_BIASES)] | None = None
    bad_words: Annotated[list[StopText], Field(max_length=MAX_WORDS)] | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: Structured | None = None
    guided_json: Schema | None = None
    guided_regex: Bounded | None = None
    guided_choice: Choices | None = None
    guided_grammar: Bounded | None = None
    prompt_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_STOPS)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Count | None = None
    max_tokens: Count | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=1024)] | None = None

    @pydantic.model_validator(mode="after")
    def _options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        return self

    @pydantic.model_validator(mode="after")
    def _one_form(self) -> Self:
        if len(self._forms()) > 1:
            raise ValueError(
                "structured_outputs asks for one form of answer, as response_format and guided_... do: keep one of them"
            )
        if self.prompt_logprobs is not None and self.stream:
            raise ValueError("prompt_logprobs come with whole answers only: leave stream out")
        return self

    @property
    def grammar(self) -> dict[str, Any] | None:
        """The engine's grammar of the form that was asked for."""
        return next(iter(self._forms()), None)

    @property
    def form(self) -> str | None:
        """The name of the field that asks for a form."""
        asking = ("response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice")
        return next((name for name in (*asking, "guided_grammar") if getattr(self, name) is not None), None)

    @property
    def biases(self) -> dict[int, float]:
        """The biases by token id."""
        return {int(id): value for id, value in (self.logit_bias or {}).items()}

    def _forms(self) -> list[dict[str, Any]]:
        guided = Structured.model_construct(
            json_=self.guided_json, regex=self.guided_regex, choice=self.guided_choice, grammar=self.guided_grammar
        )
        named = [] if self.response_format is None else [self.response_format.grammar]
        asked = [] if self.structured_outputs is None else self.structured_outputs.asked
        return [form for form in (*named, *asked, *guided.asked) if form is not None]

    @property
    def choices(self) -> int:
        """The number of completions asked for per prompt."""
        return self.n or 1

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class PromptDetails(Reply):
    """What became of the prompt's tokens: how many of them the prefix cache had."""

    cached_tokens: int


class Usage(Reply):
    """Token counts of one answer; the prompt counts once however many choices were asked for."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = None

    @classmethod
    def of(cls, prompt: int, completion: int, cached: int = 0) -> Usage:
        """Return the usage with its total, and with what was `cached` if anything was."""
        details = {"prompt_tokens_details": PromptDetails(cached_tokens=cached)} if cached else {}
        total = prompt + completion
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=total, **details)


class PromptLogprob(Reply):
    """What the model thought of a token that stands in the prompt."""

    logprob: float
    decoded_token: str


PromptLogprobs = list[dict[str, PromptLogprob] | None]  # by token id; null for the first token


class ErrorDetail(Reply):
    """Why a request was refused, and which field is to blame."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(Reply):
    """The one shape that every error has."""

    error: ErrorDetail


class ModelCard(Reply):
    """One entry of `/v1/models`."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "hanok"
    max_model_len: int


class ModelList(Reply):
    """The answer of `/v1/models`."""

    object: str = "list"
    data: list[ModelCard]
