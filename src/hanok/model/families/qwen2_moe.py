"""Qwen1.5-MoE and Qwen2-MoE: many small experts, and a shared one behind a gate."""

from __future__ import annotations

from collections.abc import Sequence

from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ENDS,
    GATE_UP_DOWN,
    MLP,
    PRE_NORMS,
    GatedRow,
    Heads,
    O,
    T,
    eps,
    matrices,
    sizes,
    skeleton,
)
from hanok.model.families.mixture import EXPERTS, NORMALISE, ROUTER, Start, chosen, sparse
from hanok.model.families.pattern import Layers, windows
from hanok.model.families.qwen2 import SWITCHED
from hanok.model.families.rows import BLOCK, RopeRow, flag
from hanok.model.families.rule import Rule, layers
from hanok.model.families.table import REQUIRED, Family, Json, Key


def early(theirs: Json, depth: int) -> Sequence[str]:
    """Return windows in every other layer up to `max_window_layers`, where the config asks for windows."""
    first = theirs.get("max_window_layers", 28)
    on = theirs.get("use_sliding_window")
    return ["local" if on and layer % 2 == 0 and layer < first else "global" for layer in range(depth)]


QWEN2_MOE = FAMILIES.register("qwen2_moe", paper="Yang et al. 2024, arXiv 2407.10671, section 2.2.2")(
    Family(
        model_type="qwen2_moe",
        architecture="Qwen2MoeForCausalLM",
        skeleton=skeleton(),
        config=(
            Layers(
                rows=(
                    *sizes(context=32768),
                    eps(1e-6),
                    Heads(16),
                    RopeRow(BLOCK + "mixer.position"),
                    Key("qkv_bias", (BLOCK + "mixer.bias",), **(flag("qkv", "none") | {"default": True})),
                ),
                kinds=(
                    windows(early, local=SWITCHED),
                    sparse(
                        dense=(Key("intermediate_size", ("ffn.hidden",), REQUIRED), GatedRow(ours="ffn")),
                        mixture=(
                            Key("num_experts", ("ffn.experts",), 60),
                            *chosen("ffn", per_token=4, balance=0.001, hidden="moe_intermediate_size"),
                            Key("norm_topk_prob", ("ffn.router.normalise",), **NORMALISE),
                            Key("shared_expert_intermediate_size", ("ffn.shared",), 5632),
                            Start("ffn.shared_gate", "sigmoid"),
                        ),
                    ),
                ),
            ),
        ),
        weights=(
            *ENDS,
            *PRE_NORMS,
            *layers(T + "self_attn.", O + "mixer.", [(f"{a}_proj", a) for a in "qkv"]),
            *matrices(T + "self_attn.", O + "mixer.", [("o_proj", "o")]),
            *MLP,
            ROUTER,
            *EXPERTS,
            *matrices(T + "mlp.shared_expert.", O + "ffn.shared.", GATE_UP_DOWN),
            Rule(T + "mlp.shared_expert_gate.weight", O + "ffn.shared_gate.weight"),
        ),
        base="model.",
    )
)
