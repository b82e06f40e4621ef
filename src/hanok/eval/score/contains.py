"""The answer somewhere in the completion."""

from __future__ import annotations

import unicodedata

from hanok.eval.score import SCORES


@SCORES.register("contains")
def contains(completion: str, answer: str) -> float:
    """1 if the answer occurs in the completion; it rewards long completions, so prefer `exact` where that fits."""
    return float(unicodedata.normalize("NFC", answer.strip()) in unicodedata.normalize("NFC", completion))
