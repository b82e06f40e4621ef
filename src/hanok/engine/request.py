"""What is asked of the engine and what comes back."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from hanok.core.errors import UsageError
from hanok.engine.grammar import Grammar

Message = dict[str, Any]
Prompt = str | Sequence[int] | Sequence[Message] | torch.Tensor
FinishReason = Literal["stop", "length", "abort", "error"]
TopLogprobs = list[tuple[int, float]]
LARGEST = 2**63  # integers beyond 64 bits are refused at the door
SAMPLED = ("temperature", "top_k", "top_p", "min_p", "typical_p")
PRIORITIES = 100  # levels each way: bounds how long one request can be put behind others
MOST_BIASES, MOST_BAD_WORDS, MOST_PROMPT_LOGPROBS = 1_024, 1_024, 20


@dataclass(frozen=True)
class Request:
    """One generation: a prompt (text, chat messages or token ids), how to sample, and when to stop.

    `max_tokens` None means up to the model's context. `temperature` 0 is greedy. With a `seed`, the tokens do not
    depend on what else is running. `logprobs` n asks for each token's log-prob and the n best alternatives,
    `prompt_logprobs` n for those of the prompt. `logit_bias` is {token id: -100 to 100}; `bad_words` are texts or rows
    of token ids that must not be written; `grammar` is {kind: value}, such as {"json_schema": {...}}, {"regex": "..."}
    or {"choice": [...]}: what ends by "stop" is a text of it. A lower `priority` (-100 to 100) is served sooner; only
    requests of one `salt`, such as a tenant's name, share what was computed for a common beginning.
    """

    prompt: Prompt
    max_tokens: int | None = 16
    _: KW_ONLY
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    bad_words: Sequence[str | Sequence[int]] = ()
    grammar: Grammar | Mapping[str, Any] | None = None
    seed: int | None = None
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    min_tokens: int = 0
    priority: int = 0
    salt: str | None = None
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
            "priority": whole("priority", self.priority, low=-PRIORITIES, high=PRIORITIES + 1),
            **_steered(self),
        }
        if fixed["top_p"] == 0:
            raise UsageError("top_p must be above 0; for the most likely token use temperature=0")
        if fixed["typical_p"] == 0:
            raise UsageError("typical_p must be above 0; 1 switches it off")
        if not isinstance(self.ignore_eos, bool):
            raise UsageError(f"ignore_eos must be True or False, not {self.ignore_eos!r}")
        if self.salt is not None and not isinstance(self.salt, str):
            raise UsageError(f"salt must be a string, not {shown(self.salt)}")
        if self.max_tokens is not None and fixed["min_tokens"] > fixed["max_tokens"]:
            raise UsageError(f"min_tokens ({self.min_tokens}) is more than max_tokens ({self.max_tokens})")
        fixed["sampling"] = {name: fixed[name] for name in SAMPLED}
        for name, value in fixed.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Output:
    """A finished generation. `tokens` holds everything drawn, a final stop token included; `text` leaves stops out.

    `logprobs` are those of the chosen tokens under the model's own distribution, before temperature and filters;
    they are None unless the request asked. `prompt_tokens` counts the prompt, `prompt_ids` is it; `prompt_logprobs` are
    those of its tokens, None for the first, which nothing precedes. `cached_tokens` of the prompt were not computed
    for this request; `queue_time` and `prefill_time` are seconds up to its first step, and from there to its first
    token. What an output says does not depend on these three, and so they do not count when outputs are compared.
    """

    tokens: list[int]
    logprobs: list[float] | None
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    prompt_ids: list[int] = field(repr=False)
    top_logprobs: list[TopLogprobs] | None = None
    prompt_logprobs: list[float | None] | None = field(default=None, repr=False)
    prompt_top_logprobs: list[TopLogprobs | None] | None = field(default=None, repr=False)
    cached_tokens: int = field(default=0, compare=False)
    queue_time: float | None = field(default=None, repr=False, compare=False)
    prefill_time: float | None = field(default=None, repr=False, compare=False)


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


def _steered(request: Request) -> dict[str, Any]:
    """Return the checked fields that steer which tokens are likely."""
    scored = request.prompt_logprobs
    most = MOST_PROMPT_LOGPROBS + 1
    return {
        "typical_p": real("typical_p", request.typical_p, low=0.0, high=1.0),
        "repetition_penalty": real("repetition_penalty", request.repetition_penalty, low=0.01, high=100.0),
        "presence_penalty": real("presence_penalty", request.presence_penalty, low=-2.0, high=2.0),
        "frequency_penalty": real("frequency_penalty", request.frequency_penalty, low=-2.0, high=2.0),
        "logit_bias": _biases(request.logit_bias),
        "bad_words": _bad_words(request.bad_words),
        "grammar": None if request.grammar is None else Grammar.of(request.grammar),
        "prompt_logprobs": None if scored is None else whole("prompt_logprobs", scored, low=0, high=most),
    }


def _biases(table: Any) -> dict[int, float]:
    if not isinstance(table, Mapping):
        raise UsageError(f"logit_bias must map token ids to numbers, not be of type {type(table).__name__}")
    if len(table) > MOST_BIASES:
        raise UsageError(f"logit_bias has {len(table)} entries; at most {MOST_BIASES} are taken")
    biases = {
        whole("logit_bias: a token id", id, low=0): real(f"logit_bias[{id}]", value, low=-100.0, high=100.0)
        for id, value in table.items()
    }
    return {id: value for id, value in biases.items() if value}


def _bad_words(words: Any) -> tuple[str | tuple[int, ...], ...]:
    if isinstance(words, str) or not isinstance(words, Sequence):
        raise UsageError(f"bad_words must be a list of strings or of rows of token ids, not {shown(words)}")
    if len(words) > MOST_BAD_WORDS:
        raise UsageError(f"bad_words has {len(words)} entries; at most {MOST_BAD_WORDS} are taken")
    checked = [word if isinstance(word, str) else tuple(token_ids("bad_words", word)) for word in words]
    if not all(checked):
        raise UsageError("bad_words holds an empty entry, which would forbid everything: leave it out")
    return tuple(checked)


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
