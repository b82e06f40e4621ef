"""What is asked of the engine and what comes back."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from hanok.core.errors import UsageError

Message = dict[str, Any]
Prompt = str | Sequence[int] | Sequence[Message] | torch.Tensor
FinishReason = Literal["stop", "length", "abort", "error"]
TopLogprobs = list[tuple[int, float]]
LARGEST = 2**63  # integers beyond 64 bits are refused at the door


@dataclass(frozen=True)
class Request:
    """One generation: a prompt (text, chat messages or token ids), how to sample, and when to stop.

    `max_tokens` None means up to the model's context. `temperature` 0 is greedy. With a `seed`, the tokens do not
    depend on what else is running. `logprobs` n asks for each token's log-prob and the n best alternatives.
    """

    prompt: Prompt
    max_tokens: int | None = 16
    _: KW_ONLY
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    min_tokens: int = 0
    sampling: dict[str, float] = field(init=False, repr=False, compare=False)  # values by sampler, for the chain

    def __post_init__(self) -> None:
        fixed: dict[str, Any] = {
            "prompt": _prompt(self.prompt),
            "max_tokens": None if self.max_tokens is None else whole("max_tokens", self.max_tokens, low=1),
            "temperature": real("temperature", self.temperature, low=0.0),
            "top_k": whole("top_k", self.top_k, low=0),
            "top_p": real("top_p", self.top_p, low=0.0, high=1.0),
            "min_p": real("min_p", self.min_p, low=0.0, high=1.0),
            "seed": None if self.seed is None else whole("seed", self.seed, low=-LARGEST),
            "stop": _stops(self.stop),
            "stop_token_ids": token_ids("stop_token_ids", self.stop_token_ids),
            "logprobs": None if self.logprobs is None else whole("logprobs", self.logprobs, low=0),
            "min_tokens": whole("min_tokens", self.min_tokens, low=0),
        }
        if fixed["top_p"] == 0:
            raise UsageError("top_p must be above 0; for the most likely token use temperature=0")
        if not isinstance(self.ignore_eos, bool):
            raise UsageError(f"ignore_eos must be True or False, not {self.ignore_eos!r}")
        if self.max_tokens is not None and fixed["min_tokens"] > fixed["max_tokens"]:
            raise UsageError(f"min_tokens ({self.min_tokens}) is more than max_tokens ({self.max_tokens})")
        fixed["sampling"] = {name: fixed[name] for name in ("temperature", "top_k", "top_p", "min_p")}
        for name, value in fixed.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Output:
    """A finished generation. `tokens` holds everything drawn, a final stop token included; `text` leaves stops out.

    `logprobs` are those of the chosen tokens under the model's own distribution, before temperature and filters;
    they are None unless the request asked. `prompt_tokens` counts the prompt, `prompt_ids` is it.
    """

    tokens: list[int]
    logprobs: list[float] | None
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    prompt_ids: list[int] = field(repr=False)
    top_logprobs: list[TopLogprobs] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What one step brought for one request; the last one has `finish_reason` and `output`.

    `text` lags behind `tokens` while a character is incomplete or a stop string may be forming; the texts of all
    events make up the output's text. `error` says what went wrong where `finish_reason` is "error".
    """

    id: int
    text: str
    tokens: list[int]
    logprobs: list[float] | None
    top_logprobs: list[TopLogprobs] | None
    finish_reason: FinishReason | None = None
    output: Output | None = None
    error: Exception | None = None


def whole(name: str, value: Any, *, low: int, high: int = LARGEST) -> int:
    """Return an integer in [low, high), or say which parameter is wrong."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise UsageError(f"{name} must be an integer, not {value!r}")
    if not low <= number < high:
        top = f" and below {high}" if high < LARGEST else ""
        raise UsageError(f"{name} must be at least {low}{top}, not {shown(number)}")
    return number


def real(name: str, value: Any, *, low: float, high: float = math.inf) -> float:
    """Return a finite number in [low, high], or say which parameter is wrong."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise UsageError(f"{name} must be a number, not {value!r}")
    # Compared before it is converted: float() of a huge integer overflows.
    if not low <= value <= high or value >= 1e308:
        bound = f"from {low:g} to {high:g}" if high < math.inf else f"at least {low:g} and finite"
        raise UsageError(f"{name} must be {bound}, not {shown(value)}")
    return float(value)


def token_ids(name: str, value: Any) -> list[int]:
    """Return a flat list of token ids from a sequence, tensor or array."""
    if isinstance(value, torch.Tensor | np.ndarray):
        if value.ndim != 1 and not (value.ndim == 2 and value.shape[0] == 1):
            raise UsageError(f"{name} must be one row of token ids, not of shape {tuple(value.shape)}")
        value = value.reshape(-1).tolist()
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise UsageError(f"{name} must be a sequence of token ids, not {type(value).__name__}")
    return [whole(f"{name}[{at}]", item, low=0) for at, item in enumerate(value)]


def shown(value: object) -> str:
    """Return a short form of a value for a message."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _prompt(prompt: Any) -> Any:
    if isinstance(prompt, str):
        if not prompt:
            raise UsageError("prompt is empty: give at least one character, message or token id")
        return prompt
    if isinstance(prompt, Sequence) and len(prompt) and isinstance(prompt[0], dict):
        for at, message in enumerate(prompt):
            if not isinstance(message, dict):
                raise UsageError(f"prompt[{at}] must be a message like the first one, not {type(message).__name__}")
        return list(prompt)
    ids = token_ids("prompt", prompt)
    if not ids:
        raise UsageError("prompt is empty: give at least one character, message or token id")
    return ids


def _stops(stop: Any) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else stop
    if not isinstance(stops, Sequence) or not all(isinstance(text, str) for text in stops):
        raise UsageError(f"stop must be a string or a sequence of strings, not {shown(stop)}")
    if not all(stops):
        raise UsageError("stop holds an empty string, which would stop at once: leave it out")
    return tuple(stops)
