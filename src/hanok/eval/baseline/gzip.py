"""The compressor that everybody has."""

from __future__ import annotations

import gzip as library

from hanok.eval.baseline import BASELINES, Held


@BASELINES.register("gzip")
def gzip(held: Held) -> float:
    """`gzip -9` of the held-out texts, one after the other; it has seen nothing before them."""
    packed = library.compress("\n".join(held.texts).encode(), compresslevel=9, mtime=0)
    return 8 * len(packed) / held.bytes
