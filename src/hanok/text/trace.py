"""A conversation as token ids: who wrote which tokens, and with what log-probability. Text is only a view of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hanok.core.errors import UsageError


@dataclass(frozen=True)
class Span:
    """Tokens `start` to `end` (exclusive) by one role; the format's own markers have the role "format"."""

    start: int
    end: int
    role: str  # "system", "user", "assistant", "document" or "format"
    source: str = "data"  # where the tokens come from: "data", or "model" if they were sampled


@dataclass(frozen=True)
class Trace:
    """Token ids that never pass through text again, their spans in order, and log-probs where they are known."""

    tokens: list[int]
    spans: list[Span] = field(default_factory=list)
    logprobs: list[float] | None = None  # one per token; NaN where unknown

    def __post_init__(self) -> None:
        end = 0
        for span in self.spans:
            if span.start < end or span.end < span.start or span.end > len(self.tokens):
                raise UsageError(f"span {span} overlaps another or leaves the {len(self.tokens)} tokens")
            end = span.end
        if self.logprobs is not None and len(self.logprobs) != len(self.tokens):
            raise UsageError(f"{len(self.logprobs)} log-probs for {len(self.tokens)} tokens")

    def __len__(self) -> int:
        return len(self.tokens)

    def mask(self, role: str = "assistant") -> list[bool]:
        """Mark the tokens that a role wrote; an assistant's include the token that ends its turn."""
        marks = [False] * len(self.tokens)
        for span in self.spans:
            if span.role == role:
                marks[span.start : span.end] = [True] * (span.end - span.start)
        return marks

    def extend(
        self, tokens: Sequence[int], *, role: str = "assistant", source: str = "model", logprobs: Sequence[float] = ()
    ) -> Trace:
        """Return the trace with a role's tokens behind it, as a rollout adds them to its prompt."""
        known = [float("nan")] * len(self.tokens) if self.logprobs is None else self.logprobs
        start = len(self.tokens)
        return Trace(
            tokens=[*self.tokens, *tokens],
            spans=[*self.spans, Span(start, start + len(tokens), role, source)],
            logprobs=[*known, *logprobs] if logprobs or self.logprobs is not None else None,
        )


def document(tokens: Sequence[int]) -> Trace:
    """Return the trace of a plain document, every token of which is learned."""
    return Trace(tokens=list(tokens), spans=[Span(0, len(tokens), "document")])
