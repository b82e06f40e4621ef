"""Texts to vectors: an encoder's states, pooled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.model.model import Model
from hanok.nn.context import Dense
from hanok.text.tokenizer import Tokenizer

Pool = Literal["mean", "cls", "last"]


def embed(
    model: Model,
    tokenizer: Tokenizer | None,
    texts: Sequence[str | Sequence[int]],
    *,
    pool: Pool = "mean",
    normalise: bool = True,
    batch: int = 32,
    max_tokens: int | None = None,
) -> Tensor:
    """Return one vector per text, (N, dim) float32: the mean of its tokens' states, or the first's or last's.

    Texts are cut to `max_tokens` (default: the model's context); texts of like length are computed together, padded,
    and padding is seen by nothing. A text is a string or the ids of one, special tokens included.
    """
    if pool not in ("mean", "cls", "last"):
        raise UsageError(f"unknown pool {pool!r} (known: mean, cls, last)")
    limit = max_tokens or model.config.context
    rows = [_ids(tokenizer, text, limit) for text in texts]
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    out = torch.empty(len(rows), model.config.dim)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            vectors = _pooled(model, [rows[at] for at in part], pool)
            out[part] = (F.normalize(vectors, dim=-1) if normalise else vectors).cpu()
    return out


def _pooled(model: Model, rows: list[list[int]], pool: Pool) -> Tensor:
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=model.device)
    seen = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=model.device)
    states = model.hidden(tokens, Dense(tokens, segments=1 - seen)).float()
    if pool == "cls":
        return states[:, 0]
    if pool == "last":
        return states[torch.arange(len(rows)), seen.sum(1) - 1]
    return (states * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)


def _ids(tokenizer: Tokenizer | None, text: str | Sequence[int], limit: int) -> list[int]:
    if not isinstance(text, str):
        return list(text)[:limit]
    if tokenizer is None:
        raise UsageError("this model has no tokenizer: give texts as token ids")
    return tokenizer.encode_wrapped(text, limit)
