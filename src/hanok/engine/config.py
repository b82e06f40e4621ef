"""The engine's dials."""

from __future__ import annotations

from typing import Literal, Self

import pydantic

from hanok.core.config import Config, optional_spec
from hanok.engine.speculative import PROPOSERS
from hanok.ops.attention import BLOCK


class EngineConfig(Config):
    """How much an engine does at once, and with which numerics.

    `num_pages` None takes what `max_sequences` full contexts need, up to a quarter of the machine's memory; storage
    grows with use. A step computes at most `max_batch_tokens` tokens, at most `chunk` of them of one prompt.
    `page_order` "shuffled" hands pages out at random, which tests use; `seed` draws the seeds of requests without one.
    `prefix_cache` lets a sequence begin with what was computed for another one of the same tokens; of recurrent states
    at most `prefix_state_bytes` are kept for that. `speculation` is a proposer, by its word or as a spec:
    "ngram", {"kind": "draft", "model": "DIR", "tokens": 4}.
    """

    numerics: Literal["fast", "exact"] = "fast"
    page_size: int = pydantic.Field(default=BLOCK, ge=1, strict=True)
    num_pages: int | None = pydantic.Field(default=None, ge=1, strict=True)
    max_batch_tokens: int = pydantic.Field(default=512, ge=1, strict=True)
    max_sequences: int = pydantic.Field(default=64, ge=1, strict=True)
    chunk: int = pydantic.Field(default=256, ge=1, strict=True)
    page_order: Literal["linear", "shuffled"] = "linear"
    seed: int = pydantic.Field(default=0, strict=True)
    prefix_cache: bool = pydantic.Field(default=True, strict=True)
    prefix_state_bytes: int = pydantic.Field(default=256 << 20, ge=0, strict=True)
    speculation: optional_spec(PROPOSERS) = None  # type: ignore[valid-type]

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if self.numerics == "exact" and self.page_size % BLOCK:
            raise ValueError(f"page_size must be a multiple of {BLOCK} with exact numerics")
        return self
