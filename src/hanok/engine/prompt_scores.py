"""Log-probs of a prompt's own tokens, taken from the same forwards that read it, chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from itertools import accumulate

import torch
from torch import Tensor

from hanok.engine.choose import log_probs
from hanok.engine.layout import Row
from hanok.engine.request import TopLogprobs
from hanok.engine.sequence import Sequence
from hanok.model.model import Model

SLAB = 1 << 24  # logits held at once


def score_prompts(model: Model, sequences: Ordered[Sequence], rows: Ordered[Row], hidden_TD: Tensor) -> None:
    """Note what the states of this step say about the prompts whose requests ask for `prompt_logprobs`.

    A place that was scored before (a preempted sequence reads again) is left alone.
    """
    if all(sequence.request.prompt_logprobs is None for sequence in sequences):
        return
    starts = [0, *accumulate(row.length for row in rows)]
    for sequence, row, at in zip(sequences, rows, starts, strict=False):
        asked = sequence.request.prompt_logprobs
        if asked is None:
            continue
        begin = max(row.start, len(sequence.prompt_logprobs) - 1)
        end = min(row.start + row.length, sequence.prompt - 1)
        size = max(1, SLAB // model.config.vocab)
        for start in range(begin, end, size):
            stop = min(end, start + size)
            places = hidden_TD[at + start - row.start : at + stop - row.start]
            targets = sequence.tokens[start + 1 : stop + 1]
            logprobs, tops = _scores(log_probs(model.logits(places)), targets, min(asked, model.config.vocab))
            sequence.prompt_logprobs += logprobs
            sequence.prompt_tops += tops


def _scores(table_NV: Tensor, targets: list[int], top: int) -> tuple[list[float], list[TopLogprobs]]:
    ids = torch.tensor(targets, device=table_NV.device)[:, None]
    chosen: list[float] = table_NV.gather(-1, ids)[:, 0].tolist()
    if not top:
        return chosen, [[] for _ in targets]
    values, best = table_NV.topk(top, -1)
    return chosen, [list(zip(*pair, strict=True)) for pair in zip(best.tolist(), values.tolist(), strict=True)]
