"""Length as difficulty."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hanok.core.config import PartConfig
from hanok.text.data.rows import Documents
from hanok.text.data.score import SCORES
from hanok.text.data.score.base import Scores
from hanok.text.data.shard import Shards


@SCORES.register("length", paper="arXiv:1903.09848")
class Length:
    """The number of tokens: short documents first."""

    class Config(PartConfig):
        """No options."""

        kind: Literal["length"] = "length"

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, shards: Shards) -> Scores:
        """Return the score of every document in order."""
        return np.diff(Documents(shards).ends(), prepend=0).astype(np.float64)
