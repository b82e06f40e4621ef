"""Choosing what to learn next: documents and questions by how unsure the model is about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.core.rng import Streams
from hanok.model.model import Model
from hanok.nn.context import Dense
from hanok.text.batch import ALL, Batch, pad_batch
from hanok.text.data.pack import Packed
from hanok.text.data.rows import Documents, row_batch
from hanok.text.data.score.base import Scores
from hanok.text.data.shard import Shards
from hanok.text.trace import Trace
from hanok.train.objective.policy import counted_logits
from hanok.train.uncertainty import UNCERTAINTIES
from hanok.train.uncertainty.base import Uncertainty

Over = Literal["mean", "max"]


def token_uncertainty(model: Model, batch: Batch, measure: Uncertainty) -> Tensor:
    """Return the uncertainty about each target as (B, T), zero where the weight is zero."""
    with torch.no_grad():
        here = batch.to(model.device)
        logits, where = counted_logits(model, here)
        found = measure(logits, here.targets.flatten().index_select(0, where))
        flat = torch.zeros(here.weights.numel(), dtype=found.dtype, device=found.device)
        return flat.index_copy(0, where, found).view(here.weights.shape).cpu()


def document_scores(model: Model, shards: Shards, by: str, *, length: int, batch: int = 8) -> Scores:
    """Return the mean uncertainty over the tokens of each document, whose parts of `length` tokens stand alone.

    A document with nothing to predict scores 0.
    """
    measure: Uncertainty = UNCERTAINTIES[by]()
    documents = Documents(shards)
    packed = Packed(documents, length)
    sums, counts = np.zeros(len(documents)), np.zeros(len(documents))
    for first in range(0, len(packed), batch):
        rows = range(first, min(first + batch, len(packed)))
        laid = row_batch([packed.pieces(row) for row in rows], length, segmented=True)
        values = token_uncertainty(model, laid, measure).double().numpy()
        for b, row in enumerate(rows):
            at = 0
            for span in packed.spans(row):
                size = span.stop - span.start - 1
                sums[span.document] += values[b, at : at + size].sum()
                counts[span.document] += size
                at += size
    return np.asarray(sums / np.maximum(counts, 1), dtype=np.float64)


def trace_scores(model: Model, traces: Sequence[Trace], by: str, *, role: str = ALL, batch: int = 16) -> Scores:
    """Return the mean uncertainty over the tokens that `role` has written in each trace (0: it has written none)."""
    measure: Uncertainty = UNCERTAINTIES[by]()
    scores = np.zeros(len(traces))
    order = sorted(range(len(traces)), key=lambda i: len(traces[i]))  # rows of about one length waste little
    for first in range(0, len(order), batch):
        chosen = order[first : first + batch]
        laid = pad_batch([traces[i] for i in chosen], 0, role=role)
        if not laid.num_targets:
            continue
        values = token_uncertainty(model, laid, measure).double()
        scores[chosen] = (values.sum(-1) / laid.weights.sum(-1).clamp_min(1)).numpy()
    return scores


def prompt_scores(
    model: Model,
    prompts: Sequence[Sequence[int]],
    by: str,
    *,
    tokens: int = 1,
    stops: Sequence[int] = (),
    batch: int = 16,
) -> Scores:
    """Return the uncertainty about the answer to each prompt, which nobody has to know.

    It is the mean over the first `tokens` tokens that the model itself would answer with, up to a stop token.
    """
    measure: Uncertainty = UNCERTAINTIES[by]()
    if measure.needs_targets:
        raise UsageError(f"{by!r} compares with the answer, which a prompt without one lacks: use entropy or margin")
    scores = np.zeros(len(prompts))
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for first in range(0, len(order), batch):
        chosen = order[first : first + batch]
        scores[chosen] = _answers(model, [prompts[i] for i in chosen], measure, tokens, stops)
    return scores


def choose(scores: Scores, number: int, *, explore: float = 0.0, seed: int = 0) -> list[int]:
    """Return the places of the `number` highest scores, best first; a share `explore` of them is drawn at random.

    Equal scores are taken in random order, so that an untrained model's choice is a fair sample.
    """
    if not 0 < number <= len(scores) or not 0 <= explore <= 1:
        raise UsageError(f"cannot choose {number} of {len(scores)} with a share of {explore} at random")
    if not np.isfinite(scores).all():
        raise UsageError(f"the score of item {int(np.argmin(np.isfinite(scores)))} is not finite")
    shuffled = Streams(seed).numpy("select").permutation(len(scores))
    best = shuffled[np.argsort(-np.asarray(scores)[shuffled], kind="stable")]
    wanted = number - round(explore * number)
    top = set(best[:wanted].tolist())
    return [*best[:wanted].tolist(), *[int(i) for i in shuffled if int(i) not in top][: number - wanted]]


def _answers(
    model: Model, prompts: Sequence[Sequence[int]], measure: Uncertainty, tokens: int, stops: Sequence[int]
) -> Scores:
    """Return the mean uncertainty over each prompt's own greedy answer."""
    sizes = torch.tensor([len(prompt) for prompt in prompts])
    width = int(sizes.max()) + tokens - 1
    if int(sizes.min()) < 1 or width > model.config.context:
        raise UsageError(
            f"prompts need 1 to {model.config.context - tokens + 1} tokens; the longest has {int(sizes.max())}"
        )
    rows = torch.zeros(len(prompts), width, dtype=torch.int64)
    for b, prompt in enumerate(prompts):
        rows[b, : len(prompt)] = torch.tensor(prompt)
    total, count, alive = (
        torch.zeros(len(prompts)),
        torch.zeros(len(prompts)),
        torch.ones(len(prompts), dtype=torch.bool),
    )
    index = torch.arange(len(prompts))
    with torch.no_grad():
        for place in range(tokens):
            here = rows.to(model.device)
            states = model.hidden(here, Dense(here))[index, sizes - 1 + place]
            logits = model.logits(states).float().cpu()
            answer = logits.argmax(-1)
            total += torch.where(alive, measure(logits, answer), 0.0)
            count += alive
            alive &= ~torch.isin(answer, torch.tensor([*stops], dtype=torch.int64))
            if place + 1 < tokens:
                rows[index, sizes + place] = answer
    return np.asarray((total / count).double().numpy(), dtype=np.float64)
