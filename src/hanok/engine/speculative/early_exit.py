"""The model guesses for itself: its first layers write ahead, and all of them check."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from typing import Literal

import pydantic
import torch

from hanok.core.config import PartConfig
from hanok.core.errors import UsageError
from hanok.engine.choose import Ranked, ranked
from hanok.engine.pool import Pool
from hanok.engine.sequence import Sequence
from hanok.engine.speculative import NOTHING, PROPOSERS, Draft, Reading, Target, room
from hanok.engine.speculative.chain import Chain
from hanok.model.exit import states
from hanok.model.model import Model
from hanok.nn.context import Context, Memory


@PROPOSERS.register("early_exit", paper="Elhoushi et al. 2024, LayerSkip, arXiv 2404.16710")
class EarlyExit:
    """Take the most likely tokens after the first `layers` layers, through the model's own norm and head.

    The memory is the model's own: what the first layers keep of true tokens is what they kept when the model read
    them. It pays for a model that was trained to be read early (objective `exits`).
    """

    class Config(PartConfig):
        kind: Literal["early_exit"] = "early_exit"
        layers: int = pydantic.Field(ge=1, strict=True)
        tokens: int = pydantic.Field(default=3, ge=1, le=64, strict=True)

    def __init__(self, config: Config, target: Target) -> None:
        model = target.llm.model
        if config.layers >= model.config.depth:
            raise UsageError(
                f"speculation.layers is {config.layers}, but an exit lies after one of the first "
                f"{model.config.depth - 1} layers of this model"
            )

        def compute(ids: list[int], ctx: Context, ends: list[int]) -> Ranked:
            tokens = torch.tensor([ids], device=model.device)
            return ranked(model.logits(states(model, tokens, ctx, [config.layers])[0][0, ends]))

        self.config, self._pool = config, target.pool
        self.chain = Chain(compute, target.pool, drawn=False)

    @staticmethod
    def memory(model: Model) -> list[Memory]:
        return []

    def observe(self, reading: Reading) -> None:
        pass

    def propose(self, sequences: Ordered[Sequence]) -> list[Draft]:
        pool, drafts = self._pool, dict.fromkeys(sequences, NOTHING)
        spare = pool.pages_free
        counts: dict[Sequence, int] = {}
        for sequence in sequences:
            count = room(sequence, self.config.tokens)
            assert sequence.slot is not None
            need = pool.need(sequence.slot, sequence.left + count - 1) if count else 0
            if count and need <= spare:
                counts[sequence] = count
                spare -= need
        if not counts:
            return list(drafts.values())
        slots = [sequence.slot for sequence in counts if sequence.slot is not None]
        parts = [sequence.tokens[slot.length :] for sequence, slot in zip(counts, slots, strict=True)]
        back = [_Way(pool, sequence) for sequence in counts]
        guessed = self.chain.guess(list(counts), slots, parts, list(counts.values()), lambda: None)
        for way in back:
            way.take()
        drafts |= zip(counts, guessed, strict=True)
        return list(drafts.values())

    def sweep(self) -> None:
        pass


class _Way:
    """The way back to where a sequence's memory was."""

    def __init__(self, pool: Pool, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self._pool, self._slot = pool, sequence.slot
        self._length, self._kept = self._slot.length, dict(self._slot.snapshots)
        pool.snapshot(self._slot)

    def take(self) -> None:
        self._pool.truncate(self._slot, self._length)
        self._slot.snapshots = self._kept
