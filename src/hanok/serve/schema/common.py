"""What both completion endpoints share: strict fields with caps, the sampling fields, usage, and known refusals."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import pydantic
from pydantic import Field

MAX_CHOICES = 128
MAX_LOGPROBS = 20
MAX_STOPS = 16
MAX_PROMPTS = 256
MAX_COUNT = 2**31 - 1

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
StopText = Annotated[str, Field(min_length=1, max_length=256)]
TokenId = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class Wire(pydantic.BaseModel):
    """A piece of JSON that a client sends; unknown keys are kept aside, never an error."""

    model_config = pydantic.ConfigDict(extra="allow", strict=True, allow_inf_nan=False, frozen=True)


class Reply(pydantic.BaseModel):
    """A piece of JSON that we send; fields that were never set are left out."""

    model_config = pydantic.ConfigDict(protected_namespaces=())

    def json_text(self) -> str:
        """Return compact JSON of exactly the fields that were set."""
        return self.model_dump_json(exclude_unset=True)


class StreamOptions(Wire):
    """How a stream is told; only `include_usage` exists."""

    include_usage: bool | None = None


class SamplingFields(Wire):
    """The fields that say how tokens are chosen, with the caps that protect everybody else's requests."""

    # Known fields that would change the answer, with the values under which they change nothing.
    refused: ClassVar[dict[str, tuple[Any, ...]]] = {
        "frequency_penalty": (None, 0),
        "logit_bias": (None, {}),
        "presence_penalty": (None, 0),
        "prompt_logprobs": (None,),
        "repetition_penalty": (None, 1),
        "structured_outputs": (None,),
        "guided_json": (None,),
        "guided_regex": (None,),
        "guided_choice": (None,),
        "guided_grammar": (None,),
        "truncate_prompt_tokens": (None,),
        "use_beam_search": (None, False),
    }

    model: Annotated[str, Field(max_length=512)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=MAX_COUNT)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=MAX_STOPS)] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_STOPS)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Count | None = None
    max_tokens: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=1024)] | None = None

    @pydantic.model_validator(mode="after")
    def _options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        return self

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

    def unsupported(self) -> str | None:
        """Return the first known but unsupported field that is set to a value that would matter."""
        given = self.model_extra or {}
        return next((name for name, harmless in self.refused.items() if given.get(name) not in harmless), None)


class Usage(Reply):
    """Token counts of one answer; the prompt counts once however many choices were asked for."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, prompt: int, completion: int) -> Usage:
        """Return the usage with its total."""
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


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
