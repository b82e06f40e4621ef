"""CTRL's penalty on everything that occurred."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from typing import ClassVar

import torch
from torch import Tensor

from hanok.engine.processor import PROCESSORS, Place, occurrences
from hanok.engine.sequence import Sequence


@PROCESSORS.register("repetition_penalty", paper="Keskar et al. 2019, arXiv 1909.05858")
class RepetitionPenalty:
    """Divide positive logits of tokens in prompt and answer by the penalty, and multiply negative ones by it."""

    order: ClassVar[int] = 20

    @staticmethod
    def wanted(sequence: Sequence) -> bool:
        return sequence.request.repetition_penalty != 1

    @staticmethod
    def apply(logits_NV: Tensor, places: Ordered[Place]) -> Tensor:
        rows, ids, _ = occurrences(places, "everything")
        values = torch.tensor([place.sequence.request.repetition_penalty for place in places], dtype=logits_NV.dtype)
        penalty = values[rows].to(logits_NV.device)
        where = (rows.to(logits_NV.device), ids.to(logits_NV.device))
        old = logits_NV[where]
        return logits_NV.index_put(where, torch.where(old > 0, old / penalty, old * penalty))
