"""Batches: tokens with targets already shifted, weights, positions and segments, so that no loss ever shifts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.text.trace import Trace

ALL = "*"  # learn every token, whoever wrote it


@dataclass(frozen=True)
class Batch:
    """What a training step reads; row b, column t predicts `targets[b, t]` from the tokens up to t.

    `segments` numbers the documents that share a row (None: one each); `columns` are named extras of shape (B, T)
    or (B,), such as old log-probs or advantages.
    """

    tokens: Tensor  # (B, T) int64
    targets: Tensor  # (B, T) int64
    weights: Tensor  # (B, T) float32; 0 where a target does not count
    positions: Tensor  # (B, T) int64, from 0 in every document
    segments: Tensor | None = None  # (B, T) int64
    columns: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device."""
        moved = {
            item.name: value.to(device)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), Tensor)
        }
        return replace(self, **moved, columns={name: value.to(device) for name, value in self.columns.items()})

    def with_columns(self, **columns: Tensor) -> Self:
        """Return the batch with more named columns."""
        return replace(self, columns={**self.columns, **columns})

    @property
    def num_targets(self) -> int:
        """Return the number of targets that count."""
        return int((self.weights != 0).sum())


def pad_batch(
    traces: Sequence[Trace], pad_id: int, *, role: str = "assistant", length: int | None = None, multiple: int = 1
) -> Batch:
    """Lay one trace in each row, padded at the end with weight 0; `role="*"` learns every token.

    A column "logprobs" (aligned with the targets) appears when a trace carries log-probs.
    """
    if not traces:
        raise UsageError("a batch needs at least one trace")
    longest = max(len(trace) for trace in traces) - 1
    width = max(1, -(-longest // multiple) * multiple) if length is None else length
    if longest > width:
        raise UsageError(f"a trace of {longest + 1} tokens does not fit rows of {width} (+1 target)")
    return _rows([[trace] for trace in traces], pad_id, width, role, segmented=False)


def pack(traces: Sequence[Trace], length: int, *, pad_id: int = 0, role: str = "assistant") -> Batch:
    """Lay traces end to end in rows of `length`, each its own segment with positions from 0, longest first.

    A trace of n tokens takes n - 1 places, because its last token is only a target.
    """
    rows: list[list[Trace]] = []
    room: list[int] = []
    for trace in sorted(traces, key=len, reverse=True):
        need = len(trace) - 1
        if need > length:
            raise UsageError(f"a trace of {len(trace)} tokens does not fit rows of {length} (+1 target)")
        if need < 1:
            continue
        index = next((i for i, left in enumerate(room) if left >= need), len(rows))
        if index == len(rows):
            rows.append([])
            room.append(length)
        rows[index].append(trace)
        room[index] -= need
    if not rows:
        raise UsageError("nothing to pack: no trace holds two tokens")
    return pack_rows(rows, length, pad_id=pad_id, role=role)


def pack_rows(rows: Sequence[Sequence[Trace]], length: int, *, pad_id: int = 0, role: str = "assistant") -> Batch:
    """Lay each given group of traces end to end in one row."""
    return _rows(rows, pad_id, length, role, segmented=True)


def _rows(rows: Sequence[Sequence[Trace]], pad_id: int, width: int, role: str, *, segmented: bool) -> Batch:
    shape = (len(rows), width)
    tokens = torch.full(shape, pad_id, dtype=torch.int64)
    targets = torch.full(shape, pad_id, dtype=torch.int64)
    weights = torch.zeros(shape)
    positions = torch.zeros(shape, dtype=torch.int64)
    segments = torch.zeros(shape, dtype=torch.int64)
    logprobs = torch.zeros(shape)
    for b, row in enumerate(rows):
        at = 0
        for number, trace in enumerate(row):
            end = at + len(trace) - 1
            tokens[b, at:end] = torch.tensor(trace.tokens[:-1], dtype=torch.int64)
            targets[b, at:end] = torch.tensor(trace.tokens[1:], dtype=torch.int64)
            weights[b, at:end] = torch.tensor(_weights(trace, role)[1:])
            positions[b, at:end] = torch.arange(end - at)
            segments[b, at:end] = number
            if trace.logprobs is not None:
                logprobs[b, at:end] = torch.nan_to_num(torch.tensor(trace.logprobs[1:]))
            at = end
        # In a packed row the padding is a document of its own, so that it neither sees nor is seen by the others.
        positions[b, at:] = torch.arange(width - at) + (0 if segmented else at)
        segments[b, at:] = len(row)
    known = any(trace.logprobs is not None for row in rows for trace in row)
    columns = {"logprobs": logprobs} if known else {}
    return Batch(tokens, targets, weights, positions, segments if segmented else None, columns)


def _weights(trace: Trace, role: str) -> list[float]:
    if role == ALL:
        return [1.0] * len(trace.tokens)
    return [float(mark) for mark in trace.mask(role)]
