"""Granite: LLaMA whose embeddings, scores, branches and logits are multiplied by numbers of the config."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ATTENTION_BIAS,
    BIASED_ATTENTION,
    ENDS,
    GATE_UP_DOWN,
    HIDDEN,
    PRE_NORMS,
    GatedRow,
    Heads,
    InverseRow,
    O,
    T,
    eps,
    sizes,
    skeleton,
)
from hanok.model.families.rows import BLOCK, RopeRow, flag
from hanok.model.families.rule import layers
from hanok.model.families.table import Family, Key

GRANITE = FAMILIES.register(
    "granite", paper="Granite Team 2024, Granite 3.0 Language Models; Shen et al. 2024, arXiv 2408.13359"
)(
    Family(
        model_type="granite",
        architecture="GraniteForCausalLM",
        skeleton=skeleton(),
        config=(
            *sizes(context=2048),
            HIDDEN,
            eps(1e-6),
            GatedRow(),
            ATTENTION_BIAS,
            Key("mlp_bias", (BLOCK + "ffn.bias",), **flag("all", "none")),
            Heads(),
            RopeRow(BLOCK + "mixer.position"),
            Key("embedding_multiplier", ("embed.scale",), 1.0),
            Key("attention_multiplier", (BLOCK + "mixer.scale",), 1.0),
            Key("residual_multiplier", (BLOCK + "residual",), 1.0),
            InverseRow("logits_scaling", "head.scale"),
        ),
        weights=(*ENDS, *PRE_NORMS, *BIASED_ATTENTION, *layers(T + "mlp.", O + "ffn.", GATE_UP_DOWN)),
        base="model.",
        extends="llama",
    )
)
