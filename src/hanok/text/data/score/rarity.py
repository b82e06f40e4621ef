"""Rare words as difficulty."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hanok.core.config import PartConfig
from hanok.text.data.rows import Documents
from hanok.text.data.score import SCORES
from hanok.text.data.score.base import Scores
from hanok.text.data.shard import Shards

STEP = 2**22  # tokens counted at once


@SCORES.register("rarity", paper="arXiv:1903.09848")
class Rarity:
    """The mean of -log p(token) under the token counts of the data itself: documents of common words first.

    The paper sums over the words of a sentence; the mean leaves length out, which is a score of its own.
    """

    class Config(PartConfig):
        """No options."""

        kind: Literal["rarity"] = "rarity"

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, shards: Shards) -> Scores:
        """Return the score of every document in order, in nats per token; 0 for an empty one."""
        vocab, total = int(shards.index["vocab_size"]), len(shards)
        counts = np.zeros(vocab, dtype=np.int64)
        for start in range(0, total, STEP):
            counts += np.bincount(shards.read(start, start + STEP), minlength=vocab)
        surprise = -np.log(np.maximum(counts, 1) / max(total, 1))
        ends = Documents(shards).ends()
        starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        sums = np.zeros(len(ends))
        for start in range(0, total, STEP):
            stop = min(start + STEP, total)
            running = np.concatenate([[0.0], np.cumsum(surprise[shards.read(start, stop)])])
            sums += running[np.clip(ends, start, stop) - start] - running[np.clip(starts, start, stop) - start]
        sizes: Scores = np.maximum(ends - starts, 1).astype(np.float64)
        return np.asarray(sums / sizes, dtype=np.float64)
