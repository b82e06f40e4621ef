"""A penalty on having occurred."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from typing import ClassVar

from torch import Tensor

from hanok.engine.processor import PROCESSORS, Place, subtract
from hanok.engine.sequence import Sequence


@PROCESSORS.register("presence_penalty", paper="https://platform.openai.com/docs/api-reference/chat/create")
class PresencePenalty:
    """Take the penalty once from the logit of every token that the answer holds."""

    order: ClassVar[int] = 30

    @staticmethod
    def wanted(sequence: Sequence) -> bool:
        return sequence.request.presence_penalty != 0

    @staticmethod
    def apply(logits_NV: Tensor, places: Ordered[Place]) -> Tensor:
        return subtract(logits_NV, places, [p.sequence.request.presence_penalty for p in places], each=False)
