"""OLMoE: 64 small experts, and norms over the whole of queries and keys."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ATTENTION_BIAS,
    BIASED_ATTENTION,
    ENDS,
    PRE_NORMS,
    QK_NORMS,
    Heads,
    Only,
    eps,
    sizes,
    skeleton,
)
from hanok.model.families.mixture import EXPERTS, MOE, NORMALISE, ROUTER, chosen
from hanok.model.families.olmo2 import OVER_ALL
from hanok.model.families.rows import BLOCK, RopeRow
from hanok.model.families.table import Family, Key

OLMOE = FAMILIES.register("olmoe", paper="Muennighoff et al. 2024, arXiv 2409.02060")(
    Family(
        model_type="olmoe",
        architecture="OlmoeForCausalLM",
        skeleton=skeleton(mixer=OVER_ALL, block={"ffn": MOE}),
        config=(
            *sizes(context=4096),
            eps(1e-5, BLOCK + "mixer.qk_norm.eps"),
            ATTENTION_BIAS,
            Heads(),
            RopeRow(BLOCK + "mixer.position"),
            Key("num_experts", (BLOCK + "ffn.experts",), 64),
            *chosen(BLOCK + "ffn", per_token=8, balance=0.01, hidden="intermediate_size"),
            Key("norm_topk_prob", (BLOCK + "ffn.router.normalise",), **NORMALISE),
            Only("clip_qkv", (None,)),
        ),
        weights=(*ENDS, *PRE_NORMS, *BIASED_ATTENTION, *QK_NORMS, ROUTER, *EXPERTS),
        base="model.",
    )
)
