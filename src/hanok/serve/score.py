"""Log-probabilities of a prompt's own tokens (`echo` with `logprobs`), which likelihood evaluations ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hanok.engine.choose import log_probs
from hanok.engine.prepare import Served
from hanok.ops.numerics import numerics

ROWS = 256  # positions whose distribution over the whole vocabulary is held at a time


@dataclass(frozen=True)
class Scored:
    """Per token: its log-probability given the past, and the best alternatives; the first token has neither."""

    logprobs: list[float | None]
    tops: list[list[tuple[int, float]] | None]


def score_prompt(llm: Served, tokens: Sequence[int], *, top: int, mode: str) -> Scored:
    """Return the log-probabilities of tokens[1:] given the past, with the `top` best alternatives at each place."""
    ids = torch.tensor([list(tokens)], device=llm.model.device)
    logprobs: list[float | None] = [None]
    tops: list[list[tuple[int, float]] | None] = [None]
    with torch.inference_mode(), numerics(mode):
        hidden = llm.model.hidden(ids)[0, :-1]
        for start in range(0, len(hidden), ROWS):
            rows = hidden[start : start + ROWS]
            table = log_probs(llm.model.logits(rows))
            chosen = ids[0, start + 1 : start + 1 + len(rows)]
            logprobs += table.gather(1, chosen[:, None])[:, 0].tolist()
            tops += _best(table, top)
    return Scored(logprobs, tops)


def _best(table: Tensor, top: int) -> list[list[tuple[int, float]]]:
    values, places = table.topk(min(top, table.shape[1]), dim=-1)
    return [list(zip(row, chances, strict=True)) for row, chances in zip(places.tolist(), values.tolist(), strict=True)]
