"""Prompt lookup: what followed the last time that the text's end was seen."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from typing import Literal, Self

import pydantic

from hanok.core.config import PartConfig
from hanok.engine.sequence import Sequence
from hanok.engine.speculative import NOTHING, PROPOSERS, Draft, Reading, Target, room
from hanok.model.model import Model
from hanok.nn.context import Memory


@dataclass
class Index:
    """Where each run of tokens ended last, as the place behind it; runs that end before `done` are in."""

    sequence: Sequence
    ends: dict[tuple[int, ...], int] = field(default_factory=dict)
    done: int = 1


@PROPOSERS.register("ngram", paper="Saxena 2023, Prompt Lookup Decoding")
class Ngram:
    """Copy what followed the latest earlier place where the last `longest` tokens stood, or fewer down to `shortest`.

    Costs no model and some dictionary entries per token; wins where answers repeat what was read (edits, summaries,
    code). Nothing is guessed where nothing matches.
    """

    class Config(PartConfig):
        kind: Literal["ngram"] = "ngram"
        tokens: int = pydantic.Field(default=5, ge=1, le=64, strict=True)
        longest: int = pydantic.Field(default=4, ge=1, le=32, strict=True)
        shortest: int = pydantic.Field(default=2, ge=1, le=32, strict=True)

        @pydantic.model_validator(mode="after")
        def _check(self) -> Self:
            if self.shortest > self.longest:
                raise ValueError(f"shortest ({self.shortest}) is more than longest ({self.longest})")
            return self

    def __init__(self, config: Config, target: Target) -> None:
        self.config = config
        self._indices: dict[int, Index] = {}

    @staticmethod
    def memory(model: Model) -> list[Memory]:
        return []

    def observe(self, reading: Reading) -> None:
        pass

    def propose(self, sequences: Ordered[Sequence]) -> list[Draft]:
        return [self._copy(sequence) for sequence in sequences]

    def sweep(self) -> None:
        gone = [id for id, index in self._indices.items() if index.sequence.slot is None]
        for id in gone:
            del self._indices[id]

    def _copy(self, sequence: Sequence) -> Draft:
        index = self._indices.setdefault(sequence.id, Index(sequence))
        tokens, sizes = sequence.tokens, range(self.config.longest, self.config.shortest - 1, -1)
        for end in range(index.done, len(tokens)):
            for size in sizes:
                if size <= end:
                    index.ends[tuple(tokens[end - size : end])] = end
        index.done = len(tokens)
        for size in sizes:
            start = index.ends.get(tuple(tokens[-size:])) if size < len(tokens) else None
            if start is not None:
                found = tokens[start : start + room(sequence, self.config.tokens)]
                return Draft(tuple(found)) if found else NOTHING
        return NOTHING
