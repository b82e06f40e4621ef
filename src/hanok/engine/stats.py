"""What an engine can say about itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Stats:
    """Counts at one moment (`running` to `pages_total`) and since the start (the rest)."""

    running: int
    waiting: int
    pages_used: int
    pages_total: int
    prompt_tokens: int  # of admitted requests
    generated_tokens: int
    computed_tokens: int  # what the model read, recomputation after preemption included
    steps: int
    preemptions: int
    finished: int

    def to_dict(self) -> dict[str, int]:
        """Return the counts as JSON-able data."""
        return asdict(self)
