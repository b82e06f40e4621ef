"""Qwen3-MoE: Qwen3 with many small experts."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ATTENTION_BIAS,
    BIASED_ATTENTION,
    ENDS,
    MLP,
    PRE_NORMS,
    QK_NORMS,
    GatedRow,
    Heads,
    eps,
    sizes,
    skeleton,
)
from hanok.model.families.gpt import Either
from hanok.model.families.mixture import EXPERTS, NORMALISE, ROUTER, chosen, sparse
from hanok.model.families.pattern import Layers
from hanok.model.families.rows import BLOCK, RopeRow
from hanok.model.families.table import REQUIRED, Family, Json, Key, get, put


class SwitchedWindowRow:
    """A window of all layers, which `use_sliding_window` may switch off."""

    def read(self, theirs: Json, ours: Json) -> None:
        window = theirs.get("sliding_window", 4096) if theirs.get("use_sliding_window") else None
        put(ours, BLOCK + "mixer.window", window)

    def write(self, ours: Json, theirs: Json) -> None:
        window = get(ours, BLOCK + "mixer.window")
        if window is not None:
            theirs["use_sliding_window"], theirs["sliding_window"] = True, window


QWEN3_MOE = FAMILIES.register("qwen3_moe", paper="Yang et al. 2025, arXiv 2505.09388")(
    Family(
        model_type="qwen3_moe",
        architecture="Qwen3MoeForCausalLM",
        skeleton=skeleton(mixer={"qk_norm": {"kind": "rmsnorm"}}),
        config=(
            Layers(
                rows=(
                    *sizes(context=32768),
                    eps(1e-6, BLOCK + "mixer.qk_norm.eps"),
                    ATTENTION_BIAS,
                    Heads(4),
                    RopeRow(BLOCK + "mixer.position"),
                    SwitchedWindowRow(),
                ),
                kinds=(
                    sparse(
                        dense=(Key("intermediate_size", ("ffn.hidden",), REQUIRED), GatedRow(ours="ffn")),
                        mixture=(
                            Either(("num_experts", "num_local_experts"), ("ffn.experts",), 128),
                            *chosen("ffn", per_token=8, balance=0.001, hidden="moe_intermediate_size"),
                            Key("norm_topk_prob", ("ffn.router.normalise",), **NORMALISE),
                        ),
                    ),
                ),
            ),
        ),
        weights=(*ENDS, *PRE_NORMS, *BIASED_ATTENTION, *QK_NORMS, *MLP, ROUTER, *EXPERTS),
        base="model.",
    )
)
