"""Exact deduplication: texts that are equal but for white space."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import numpy.typing as npt

from hanok.core.config import Config


class ExactConfig(Config):
    """What still counts as the same text: every character, or all but the kind and amount of white space."""

    ignore: Literal["nothing", "spaces"] = "spaces"


class Exact:
    """Gives equal texts the same signature of 128 bits.

    Two different texts share a BLAKE2b digest of that length with probability 2^-128: among 10^9 documents that any two
    do is less likely than 10^-20.
    """

    bands = 1
    words = 2  # 64-bit words that make one key

    def __init__(self, config: ExactConfig | None = None) -> None:
        self.config = config or ExactConfig()

    def signature(self, text: str) -> npt.NDArray[np.uint64]:
        """Return the digest as two integers."""
        if self.config.ignore == "spaces":
            text = " ".join(text.split())
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return np.frombuffer(digest, dtype="<u8").astype(np.uint64)
