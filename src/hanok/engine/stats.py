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
    drafts: int = 0  # runs of guesses that were checked
    drafted_tokens: int = 0  # guesses in them
    accepted_tokens: int = 0  # guesses that became text
    prefix_queries: int = 0  # prompt tokens that were looked up in the prefix cache
    prefix_hits: int = 0  # those found there, and not computed
    pages_cached: int = 0  # pages that later sequences can find, held or not (now)
    prefix_state_bytes: int = 0  # recurrent states kept for them (now)

    def to_dict(self) -> dict[str, int]:
        """Return the counts as JSON-able data."""
        return asdict(self)
