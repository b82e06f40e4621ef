"""What a mixer may ask of the world: attend over past tokens, or carry a state along a sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.ops.attention import (
    PLAIN,
    Scoring,
    exact_whole_attention,
    plain_attention,
    scored_attention,
    seen_within,
)
from hanok.ops.numerics import current

Recurrence = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Made = tuple[Tensor, ...]
Make = Callable[[Tensor], Made]
Read = Callable[[Tensor, Tensor, Made, Tensor], Tensor]


@dataclass(frozen=True)
class PerToken:
    """Keys and values kept for every token; `shared` means that the value is the first `v_dim` numbers of the key.

    Only the last `window` tokens are ever looked at again (all of them without a window).
    """

    heads: int
    k_dim: int
    v_dim: int
    shared: bool = False
    window: int | None = None

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
    """The only door between a mixer and the program that runs it; `Dense` trains, the engine's `Paged` serves.

    `keeps` says whether keys and values stay for later steps, and so must have the shape of the mixer's memory.
    """

    keeps: bool

    @property
    def positions(self) -> Tensor:
        """Return the tokens' positions (B,T) in their sequences."""

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float,
        window: int | None = None,
        how: Scoring = PLAIN,
    ) -> Tensor:
        """Attend from q (B,T,H,D) over this and all earlier tokens' k (B,T,G,D), v (B,T,G,E); return (B,T,H,E).

        A token at position p sees positions p - window < s <= p (all s <= p without a window).
        """
        ...

    def recur(self, layer: int, fn: Recurrence, x: Tensor, memory: PerSequence) -> Tensor:
        """Run fn(x (b,n,D), state (b,*shape)) -> (y (b,n,E), state) along x (B,T,D); return y (B,T,E)."""
        ...

    def look(self, layer: int, x: Tensor, make: Make, read: Read) -> Tensor:
        """Look from x (B,T,D) at the sequence that an encoder has read; return (B,T,E).

        make(states (b,S,D)) -> tensors (b,S,...) is called once for a sequence, and what it returned kept;
        read(x (b,T,D), positions (b,T), made, seen (b,S) bool) -> (b,T,E), where padding is not seen.
        """
        ...


@dataclass(frozen=True)
class Source:
    """What an encoder read: its states (B,S,D), and which of them (B,S) are tokens rather than padding."""

    states: Tensor
    seen: Tensor


class Dense:
    """Whole sequences at once: training and scoring.

    `segments` (B,T) numbers the documents packed into a row; attention and states then stop at their borders.
    `source` is what cross-attention looks at. Tokens of a `prefix` (B,T) bool see one another both ways within their
    document, where a layer sees the past.
    """

    keeps = False

    def __init__(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        source: Source | None = None,
        prefix: Tensor | None = None,
    ) -> None:
        batch, length = tokens.shape[:2]
        if positions is None:
            positions = torch.arange(length, device=tokens.device).expand(batch, length)
        self.positions, self.segments, self.source, self.prefix = positions, segments, source, prefix
        self._masks: dict[tuple[int | None, str], Tensor] = {}
        self._distance: Tensor | None = None

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float,
        window: int | None = None,
        how: Scoring = PLAIN,
    ) -> Tensor:
        if current() == "fast":
            if how.plain and how.see == "past":
                free = window is None and self.segments is None and self.prefix is None
                return plain_attention(q, k, v, None if free else self._see(window, how), scale)
            return scored_attention((q, k, v), self._distances(), self._see(window, how), scale, how)
        if self.prefix is not None:
            raise UsageError("exact numerics read from the left: a prefix that is read both ways needs 'fast'")
        if self.segments is None:
            return exact_whole_attention((q, k, v), scale, window, how)
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        for row, start, stop in _documents(self.segments):
            part = (slice(row, row + 1), slice(start, stop))
            out[part] = exact_whole_attention((q[part], k[part], v[part]), scale, window, how)
        return out

    def recur(self, layer: int, fn: Recurrence, x: Tensor, memory: PerSequence) -> Tensor:
        if self.prefix is not None:
            raise UsageError("a recurrence reads one way: it cannot read a prefix both ways")
        if self.segments is None:
            return fn(x, _zeros(memory, x.shape[0], x.device))[0]
        parts: list[list[Tensor]] = [[] for _ in range(x.shape[0])]
        for row, start, stop in _documents(self.segments):
            parts[row].append(fn(x[row : row + 1, start:stop], _zeros(memory, 1, x.device))[0])
        return torch.cat([torch.cat(row, 1) for row in parts])

    def look(self, layer: int, x: Tensor, make: Make, read: Read) -> Tensor:
        if self.source is None:
            raise UsageError("this model looks at a source sequence: give one (source=...)")
        return read(x, self.positions, make(self.source.states), self.source.seen)

    def _distances(self) -> Tensor:
        """Return how far before each query each key lies (1,T,T), within a document."""
        if self._distance is None:
            at = torch.arange(self.positions.shape[1], device=self.positions.device)
            self._distance = (at[:, None] - at)[None]
        return self._distance

    def _see(self, window: int | None, how: Scoring) -> Tensor:
        """Return the mask of these sequences, made once for all layers."""
        plan = (window, how.see)
        if plan not in self._masks:
            see = seen_within(self._distances(), window, how.see)
            if self.prefix is not None:
                both = self.prefix.unsqueeze(-1) & self.prefix.unsqueeze(-2)
                see = see | (both & seen_within(self._distances(), window, "all"))
            if self.segments is not None:
                see = see & (self.segments.unsqueeze(-1) == self.segments.unsqueeze(-2))
            self._masks[plan] = see
        return self._masks[plan]


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
