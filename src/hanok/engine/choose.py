"""From logits to tokens: greedy or through the samplers, and the log-probs that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hanok.engine.request import Request, TopLogprobs
from hanok.engine.sampler import SAMPLERS
from hanok.ops.largest import largest


class Ranked(NamedTuple):
    """Logits (N,V) in float32 or float64, the largest of each row (N,), NaN where one is none, and its place (N,)."""

    logits: Tensor
    highest: Tensor
    best: Tensor


def ranked(raw_NV: Tensor) -> Ranked:
    """Return a model's logits as drawing needs them."""
    logits = raw_NV if raw_NV.dtype == torch.float64 else raw_NV.float()
    return Ranked(logits, *largest(logits))


def choose(
    logits_NV: Tensor, requests: Sequence[Request], uniforms: Sequence[float], best: Tensor | None = None
) -> Tensor:
    """Return one token per row: the best where the temperature is 0, else one drawn with the row's uniform number.

    The draw inverts the cumulative distribution in float64, row by row: it depends on its row and its number alone.
    `best` (N,) is given where it is known.
    """
    best = largest(logits_NV)[1] if best is None else best
    drawn = [at for at, request in enumerate(requests) if request.temperature > 0]
    if not drawn:
        return best
    everyone = len(drawn) == len(requests)
    at = torch.tensor(drawn, device=logits_NV.device)
    logits = (logits_NV if everyone else logits_NV[at]).double()
    logits = narrow(logits, [requests[i] for i in drawn])
    uniform = torch.tensor([[uniforms[i]] for i in drawn], dtype=torch.float64, device=logits.device)
    tokens = invert(logits.softmax(-1), uniform)
    return tokens if everyone else best.index_copy(0, at, tokens)


def narrow(logits_NV: Tensor, requests: Sequence[Request]) -> Tensor:
    """Pass rows of float64 logits through every sampler that their requests turn on."""
    for name, sampler in sorted(((name, SAMPLERS[name]) for name in SAMPLERS), key=lambda item: item[1].order):
        values = [request.sampling[name] for request in requests]
        active = [at for at, value in enumerate(values) if value != sampler.off]
        if not active:
            continue
        column = torch.tensor([[values[at]] for at in active], dtype=torch.float64, device=logits_NV.device)
        if len(active) == len(values):
            logits_NV = sampler.apply(logits_NV, column)
        else:
            rows = torch.tensor(active, device=logits_NV.device)
            logits_NV = logits_NV.index_copy(0, rows, sampler.apply(logits_NV[rows], column))
    return logits_NV


def invert(shares_NV: Tensor, uniform_N1: Tensor) -> Tensor:
    """Return the first token whose cumulative share exceeds uniform * total, as (N,)."""
    total = shares_NV.cumsum(-1)
    last = total[:, -1:].contiguous()
    found = torch.searchsorted(total, uniform_N1 * last, right=True)
    # The product can round up to the total itself: the last token with a share is the answer then.
    return torch.minimum(found, torch.searchsorted(total, last))[:, 0]


def log_probs(logits: Tensor) -> Tensor:
    """Return log-softmax over the last dimension in float32 (float64 stays), the model's own distribution."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide.log_softmax(-1)


def reported(
    logits_NV: Tensor, requests: Sequence[Request], tokens_N: Tensor
) -> tuple[list[float | None], list[TopLogprobs | None]]:
    """Return the chosen tokens' log-probs and the best alternatives, for the requests that asked."""
    chosen: list[float | None] = [None] * len(requests)
    tops: list[TopLogprobs | None] = [None] * len(requests)
    asked = [request.logprobs for request in requests]
    most = max((n for n in asked if n is not None), default=-1)
    if most < 0:
        return chosen, tops
    every = log_probs(logits_NV)
    picked = every.gather(-1, tokens_N[:, None])[:, 0].tolist()
    best = [part.tolist() for part in every.topk(most, -1)] if most else None
    for at, n in enumerate(asked):
        if n is not None:
            chosen[at] = picked[at]
            if n and best:
                tops[at] = list(zip(best[1][at][:n], best[0][at][:n], strict=True))
    return chosen, tops
