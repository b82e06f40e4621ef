"""OLMo 2: norms after the branches, and over the whole of queries and keys."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ATTENTION_BIAS,
    BIASED_ATTENTION,
    ENDS,
    HIDDEN,
    MLP,
    QK_NORMS,
    GatedRow,
    Heads,
    O,
    T,
    eps,
    sizes,
    skeleton,
)
from hanok.model.families.rows import BLOCK, RopeRow
from hanok.model.families.rule import Rule
from hanok.model.families.table import Family

OVER_ALL = {"qk_norm": {"kind": "rmsnorm"}, "qk_norm_over": "projection"}

OLMO2 = FAMILIES.register("olmo2", paper="OLMo Team 2025, arXiv 2501.00656")(
    Family(
        model_type="olmo2",
        architecture="Olmo2ForCausalLM",
        skeleton=skeleton(mixer=OVER_ALL, block={"wiring": "branch"}),
        config=(
            *sizes(context=2048),
            HIDDEN,
            eps(1e-5, BLOCK + "mixer.qk_norm.eps"),
            GatedRow(),
            ATTENTION_BIAS,
            Heads(),
            RopeRow(BLOCK + "mixer.position"),
        ),
        weights=(
            *ENDS,
            Rule(T + "post_attention_layernorm.weight", O + "mixer_norm.weight"),
            Rule(T + "post_feedforward_layernorm.weight", O + "ffn_norm.weight"),
            *BIASED_ATTENTION,
            *QK_NORMS,
            *MLP,
        ),
        base="model.",
    )
)
