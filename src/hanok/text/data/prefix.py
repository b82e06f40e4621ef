"""Prefixes for prefix language modelling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from hanok.text.batch import Batch
from hanok.text.data.changed import Draws


@dataclass(frozen=True)
class Prefix:
    """Draws for each document of n tokens a prefix of 1 to n tokens, evenly; only targets behind it keep their weight.

    The last token of the prefix has the first target that counts. Padding, whose weight is zero, is in no prefix.
    """

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch with the column `prefix` (B,T), 1 for its tokens, and weights zero within."""
        shape = batch.tokens.shape
        prefix, weights = np.zeros(shape, dtype=np.float32), batch.weights.numpy().copy()
        borders = np.zeros(shape, dtype=np.int64) if batch.segments is None else batch.segments.numpy()
        for b, draw in enumerate(draws):
            edges = [0, *(np.flatnonzero(np.diff(borders[b])) + 1), shape[1]]
            for start, stop in pairwise(edges):
                real = np.flatnonzero(weights[b, start:stop])
                if not len(real):  # padding
                    continue
                size = int(draw.integers(1, real[-1] + 2))
                prefix[b, start : start + size] = 1.0
                weights[b, start : start + size - 1] = 0.0
        return replace(batch, weights=torch.from_numpy(weights)).with_columns(prefix=torch.from_numpy(prefix))
