"""Splits by the hash of a key: the same item is in the same split for ever, whatever the seed or the order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

Split = Literal["train", "valid", "held_out"]
SHARES: Mapping[Split, float] = {"valid": 0.1, "held_out": 0.1}


def split_of(key: str, shares: Mapping[Split, float] = SHARES) -> Split:
    """Return the split of a key; what the shares leave is "train"."""
    place = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return "train"
