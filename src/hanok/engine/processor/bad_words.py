"""Token sequences that must not be written."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from typing import ClassVar

from torch import Tensor

from hanok.engine.processor import PROCESSORS, Place, forbid
from hanok.engine.sequence import Sequence


@PROCESSORS.register("bad_words")
class BadWords:
    """Forbid the last token of a listed sequence wherever all tokens before it have just been written."""

    order: ClassVar[int] = 80

    @staticmethod
    def wanted(sequence: Sequence) -> bool:
        return bool(sequence.bad_words)

    @staticmethod
    def apply(logits_NV: Tensor, places: Ordered[Place]) -> Tensor:
        banned: set[tuple[int, int]] = set()
        for at, place in enumerate(places):
            words = place.sequence.bad_words
            tail = place.tail(max(map(len, words)) - 1)
            banned |= {(at, word[-1]) for word in words if len(word) == 1 or tuple(tail[-len(word) + 1 :]) == word[:-1]}
        return forbid(logits_NV, sorted(banned))
