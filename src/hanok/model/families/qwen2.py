"""Qwen2 and Qwen2.5: biases on queries, keys and values, and a window in some layers."""

from __future__ import annotations

from collections.abc import Sequence

from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ENDS,
    HIDDEN,
    MLP,
    PRE_NORMS,
    Absent,
    GatedRow,
    Heads,
    O,
    T,
    eps,
    matrices,
    sizes,
    skeleton,
)
from hanok.model.families.pattern import Layers, WindowRow, windows
from hanok.model.families.rows import BLOCK, RopeRow
from hanok.model.families.rule import layers
from hanok.model.families.table import Always, Family, Json


def late(theirs: Json, depth: int) -> Sequence[str]:
    """Return windows from layer `max_window_layers` on, where the config asks for windows."""
    first = theirs.get("max_window_layers", 28)
    on = theirs.get("use_sliding_window") and theirs.get("sliding_window", 4096) is not None
    return ["local" if on and layer >= first else "global" for layer in range(depth)]


SWITCHED = (Absent({"use_sliding_window": False}, Always("use_sliding_window", True)), WindowRow(4096))

QWEN2 = FAMILIES.register("qwen2", paper="Yang et al. 2024, arXiv 2407.10671; Qwen2.5: arXiv 2412.15115")(
    Family(
        model_type="qwen2",
        architecture="Qwen2ForCausalLM",
        skeleton=skeleton(mixer={"bias": "qkv"}),
        config=(
            Layers(
                rows=(
                    *sizes(context=32768),
                    HIDDEN,
                    eps(1e-6),
                    GatedRow(),
                    Heads(32),
                    RopeRow(BLOCK + "mixer.position"),
                ),
                kinds=(windows(late, local=SWITCHED),),
            ),
        ),
        weights=(
            *ENDS,
            *PRE_NORMS,
            *layers(T + "self_attn.", O + "mixer.", [(f"{a}_proj", a) for a in "qkv"]),
            *matrices(T + "self_attn.", O + "mixer.", [("o_proj", "o")]),
            *MLP,
        ),
        base="model.",
    )
)
