"""The least number of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence as Ordered
from typing import ClassVar

from torch import Tensor

from hanok.engine.processor import PROCESSORS, Place


@PROCESSORS.register("min_tokens")
class MinTokens:
    """Take their stop tokens from sequences that are still too short to stop."""

    order: ClassVar[int] = 90

    @staticmethod
    def wanted(place: Place) -> bool:
        sequence = place.sequence
        return bool(sequence.stop_ids) and sequence.generated + len(place.drafted) < sequence.request.min_tokens

    @staticmethod
    def apply(logits_NV: Tensor, places: Ordered[Place]) -> Tensor:
        logits_NV = logits_NV.clone()
        for row, place in zip(logits_NV, places, strict=True):
            row[list(place.sequence.stop_ids)] = -math.inf
        return logits_NV
