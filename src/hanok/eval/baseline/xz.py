"""The stronger of the compressors that everybody has."""

from __future__ import annotations

import lzma

from hanok.eval.baseline import BASELINES, Held


@BASELINES.register("xz")
def xz(held: Held) -> float:
    """`xz -9e` of the held-out texts, one after the other; it has seen nothing before them."""
    packed = lzma.compress("\n".join(held.texts).encode(), preset=9 | lzma.PRESET_EXTREME)
    return 8 * len(packed) / held.bytes
