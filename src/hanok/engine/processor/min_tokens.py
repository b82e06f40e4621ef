"""The least number of tokens."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from typing import ClassVar

from torch import Tensor

from hanok.engine.processor import PROCESSORS, Place, forbid
from hanok.engine.sequence import Sequence


@PROCESSORS.register("min_tokens")
class MinTokens:
    """Take their stop tokens from sequences that are still too short to stop."""

    order: ClassVar[int] = 90

    @staticmethod
    def wanted(sequence: Sequence) -> bool:
        return bool(sequence.stop_ids) and sequence.request.min_tokens > 0

    @staticmethod
    def apply(logits_NV: Tensor, places: Ordered[Place]) -> Tensor:
        short = [(at, p.sequence) for at, p in enumerate(places) if p.drawn < p.sequence.request.min_tokens]
        return forbid(logits_NV, [(at, id) for at, sequence in short for id in sequence.stop_ids])
