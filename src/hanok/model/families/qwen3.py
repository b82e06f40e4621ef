"""Qwen3: queries and keys are normalised head by head."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ATTENTION_BIAS,
    BIASED_ATTENTION,
    ENDS,
    HIDDEN,
    MLP,
    PRE_NORMS,
    QK_NORMS,
    GatedRow,
    Heads,
    eps,
    sizes,
    skeleton,
)
from hanok.model.families.pattern import Layers, windows
from hanok.model.families.qwen2 import SWITCHED, late
from hanok.model.families.rows import BLOCK, RopeRow
from hanok.model.families.table import Family

QWEN3 = FAMILIES.register("qwen3", paper="Yang et al. 2025, arXiv 2505.09388")(
    Family(
        model_type="qwen3",
        architecture="Qwen3ForCausalLM",
        skeleton=skeleton(mixer={"qk_norm": {"kind": "rmsnorm"}}),
        config=(
            Layers(
                rows=(
                    *sizes(context=32768),
                    HIDDEN,
                    eps(1e-6, BLOCK + "mixer.qk_norm.eps"),
                    GatedRow(),
                    ATTENTION_BIAS,
                    Heads(32, 128),
                    RopeRow(BLOCK + "mixer.position"),
                ),
                kinds=(windows(late, local=SWITCHED),),
            ),
        ),
        weights=(*ENDS, *PRE_NORMS, *BIASED_ATTENTION, *QK_NORMS, *MLP),
        base="model.",
    )
)
