"""The whole answer, and nothing else."""

from __future__ import annotations

import unicodedata

from hanok.eval.score import SCORES


@SCORES.register("exact")
def exact(completion: str, answer: str) -> float:
    """1 if the completion is the answer, but for surrounding space and Unicode composition."""
    return float(unicodedata.normalize("NFC", completion.strip()) == unicodedata.normalize("NFC", answer.strip()))
