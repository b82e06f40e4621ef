"""OLMo 1: LLaMA whose norms have no weights."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ATTENTION_BIAS,
    BIASED_ATTENTION,
    EMBEDDINGS,
    HIDDEN,
    MLP,
    GatedRow,
    Heads,
    Only,
    sizes,
    skeleton,
)
from hanok.model.families.rows import BLOCK, RopeRow
from hanok.model.families.table import Family

BARE = {"kind": "layernorm", "weight": "none", "bias": "none", "eps": 1e-5}

OLMO = FAMILIES.register("olmo", paper="Groeneveld et al. 2024, arXiv 2402.00838")(
    Family(
        model_type="olmo",
        architecture="OlmoForCausalLM",
        skeleton=skeleton(norm=BARE),
        config=(
            *sizes(context=2048),
            HIDDEN,
            GatedRow(),
            ATTENTION_BIAS,
            Heads(),
            RopeRow(BLOCK + "mixer.position"),
            Only("clip_qkv", (None,)),
        ),
        weights=(*EMBEDDINGS, *BIASED_ATTENTION, *MLP),
        base="model.",
    )
)
