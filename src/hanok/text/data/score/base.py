"""What a score is."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hanok.text.data.shard import Shards

Scores = npt.NDArray[np.float64]


class Score(Protocol):
    """One number for each document of token shards."""

    def __init__(self, config: Any) -> None: ...

    def __call__(self, shards: Shards) -> Scores:
        """Return the score of every document in order."""
        ...
