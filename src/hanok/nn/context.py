"""What a mixer may ask of the world: attend over past tokens, or carry a state along a sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hanok.ops.attention import causal_see, exact_causal_attention, plain_attention
from hanok.ops.numerics import current

Recurrence = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class PerToken:
    """Keys and values kept for every token; `shared` means that the value is the first `v_dim` numbers of the key."""

    heads: int
    k_dim: int
    v_dim: int
    shared: bool = False

    @property
    def numbers(self) -> int:
        """Return how many numbers one token costs."""
        return self.heads * (self.k_dim + (0 if self.shared else self.v_dim))


@dataclass(frozen=True)
class PerSequence:
    """One state of a fixed shape per sequence, however long; zeros before the first token."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32


Memory = PerToken | PerSequence


class Context(Protocol):
    """The only door between a mixer and the program that runs it; `Dense` trains, the engine's `Paged` serves."""

    positions: Tensor

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None = None) -> Tensor:
        """Attend from q (B,T,H,D) over this and all earlier tokens' k (B,T,G,D), v (B,T,G,E); return (B,T,H,E).

        A token at position p sees positions p - window < s <= p (all s <= p without a window).
        """
        ...

    def recur(self, layer: int, fn: Recurrence, x: Tensor, memory: PerSequence) -> Tensor:
        """Run fn(x (b,n,D), state (b,*shape)) -> (y (b,n,E), state) along x (B,T,D); return y (B,T,E)."""
        ...


class Dense:
    """Whole sequences at once: training and scoring.

    `segments` (B,T) numbers the documents packed into a row; attention and states then stop at their borders.
    """

    def __init__(self, tokens: Tensor, positions: Tensor | None = None, segments: Tensor | None = None) -> None:
        batch, length = tokens.shape
        if positions is None:
            positions = torch.arange(length, device=tokens.device).expand(batch, length)
        self.positions = positions
        self.segments = segments
        self._masks: dict[int | None, Tensor | None] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None = None) -> Tensor:
        if current() == "fast":
            return plain_attention(q, k, v, self._see(window), scale)
        if self.segments is None:
            return exact_causal_attention(q, k, v, scale, window)
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        for row, start, stop in _documents(self.segments):
            part = (slice(row, row + 1), slice(start, stop))
            out[part] = exact_causal_attention(q[part], k[part], v[part], scale, window)
        return out

    def recur(self, layer: int, fn: Recurrence, x: Tensor, memory: PerSequence) -> Tensor:
        if self.segments is None:
            return fn(x, _zeros(memory, x.shape[0], x.device))[0]
        parts: list[list[Tensor]] = [[] for _ in range(x.shape[0])]
        for row, start, stop in _documents(self.segments):
            parts[row].append(fn(x[row : row + 1, start:stop], _zeros(memory, 1, x.device))[0])
        return torch.cat([torch.cat(row, 1) for row in parts])

    def _see(self, window: int | None) -> Tensor | None:
        """Return the mask of these sequences, made once for all layers; None stands for plain causal."""
        if window not in self._masks:
            see = None
            if window is not None or self.segments is not None:
                at = torch.arange(self.positions.shape[1], device=self.positions.device)
                see = causal_see(at, at, window)[None]
                if self.segments is not None:
                    see = see & (self.segments.unsqueeze(-1) == self.segments.unsqueeze(-2))
            self._masks[window] = see
        return self._masks[window]


def _zeros(memory: PerSequence, batch: int, device: torch.device) -> Tensor:
    return torch.zeros(batch, *memory.shape, dtype=memory.dtype, device=device)


def _documents(segments: Tensor) -> list[tuple[int, int, int]]:
    """Return (row, start, stop) of each run of equal segment numbers."""
    found = []
    for row, numbers in enumerate(segments.tolist()):
        start = 0
        for at in range(1, len(numbers) + 1):
            if at == len(numbers) or numbers[at] != numbers[start]:
                found.append((row, start, at))
                start = at
    return found
