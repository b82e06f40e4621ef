"""A penalty on occurring often."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from typing import ClassVar

from torch import Tensor

from hanok.engine.processor import PROCESSORS, Place, subtract
from hanok.engine.sequence import Sequence


@PROCESSORS.register("frequency_penalty", paper="https://platform.openai.com/docs/api-reference/chat/create")
class FrequencyPenalty:
    """Take the penalty from the logit of every token as often as the answer holds it."""

    order: ClassVar[int] = 40

    @staticmethod
    def wanted(sequence: Sequence) -> bool:
        return sequence.request.frequency_penalty != 0

    @staticmethod
    def apply(logits_NV: Tensor, places: Ordered[Place]) -> Tensor:
        return subtract(logits_NV, places, [p.sequence.request.frequency_penalty for p in places], each=True)
