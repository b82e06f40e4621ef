"""Several answers to one prompt: each draws numbers of its own, and the best can be picked by its log-prob."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hanok.core.errors import UsageError
from hanok.engine.request import Output, Request

GOLDEN = 0x9E3779B97F4A7C15  # spreads the seeds of the choices of one request
MOST = 128


def spread(seed: int | None, choice: int) -> int | None:
    """Return the seed of one choice: the first has the request's own, and none has none."""
    return seed if seed is None or choice == 0 else (seed + choice * GOLDEN) % 2**63


def choices(request: Request, count: int) -> list[Request]:
    """Return the requests of `count` answers to one prompt; log-probs come with them, by which they are compared."""
    if not 1 <= count <= MOST:
        raise UsageError(f"n and best_of must be from 1 to {MOST}, not {count}")
    logprobs = 0 if request.logprobs is None else request.logprobs
    return [replace(request, seed=spread(request.seed, at), logprobs=logprobs) for at in range(count)]


def best(outputs: Sequence[Output], count: int) -> list[int]:
    """Return which `count` outputs have the highest mean log-prob per token, the best first."""
    return sorted(range(len(outputs)), key=lambda at: -_mean(outputs[at].logprobs))[:count]


def _mean(logprobs: Sequence[float] | None) -> float:
    return sum(logprobs) / len(logprobs) if logprobs else 0.0
