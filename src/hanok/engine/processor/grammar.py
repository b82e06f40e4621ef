"""Structured output."""

from __future__ import annotations

import math
from collections.abc import Sequence as Ordered
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hanok.engine.processor import PROCESSORS, Place
from hanok.engine.sequence import Sequence


@PROCESSORS.register("grammar", paper="https://github.com/guidance-ai/llguidance")
class FollowGrammar:
    """Forbid every token with which the answer could no longer become a text of its grammar."""

    order: ClassVar[int] = 60

    @staticmethod
    def wanted(sequence: Sequence) -> bool:
        return sequence.matcher is not None

    @staticmethod
    def apply(logits_NV: Tensor, places: Ordered[Place]) -> Tensor:
        width = logits_NV.shape[1]
        allowed = np.ones((len(places), width), dtype=np.bool_)
        for row, (sequence, drafted) in enumerate(places):
            assert sequence.matcher is not None
            mask = sequence.matcher.allowed(drafted, sequence.stop_ids, width)
            # Behind guesses that break the grammar nothing will be used: the first of them cannot be accepted.
            if mask is not None and mask.any():
                allowed[row] = mask
        return logits_NV.masked_fill(~torch.from_numpy(allowed).to(logits_NV.device), -math.inf)
