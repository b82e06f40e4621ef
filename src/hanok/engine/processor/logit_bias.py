"""A push for single tokens."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from typing import ClassVar

import torch
from torch import Tensor

from hanok.engine.processor import PROCESSORS, Place
from hanok.engine.sequence import Sequence


@PROCESSORS.register("logit_bias", paper="https://platform.openai.com/docs/api-reference/chat/create")
class LogitBias:
    """Add a number from -100 to 100 to the logits of chosen tokens."""

    order: ClassVar[int] = 10

    @staticmethod
    def wanted(sequence: Sequence) -> bool:
        return bool(sequence.request.logit_bias)

    @staticmethod
    def apply(logits_NV: Tensor, places: Ordered[Place]) -> Tensor:
        tables = [place.sequence.request.logit_bias for place in places]
        rows = torch.tensor([row for row, table in enumerate(tables) for _ in table], device=logits_NV.device)
        ids = torch.tensor([id for table in tables for id in table], device=logits_NV.device)
        values = torch.tensor([value for table in tables for value in table.values()], dtype=torch.float64)
        return logits_NV.index_put((rows, ids), values.to(logits_NV), accumulate=True)
