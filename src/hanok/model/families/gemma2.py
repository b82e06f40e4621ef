"""Gemma 2: windows in every other layer, norms on both sides of each branch, scores and logits within bounds."""

from __future__ import annotations

from collections.abc import Sequence

from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ATTENTION_BIAS,
    BIASED_ATTENTION,
    ENDS,
    HIDDEN,
    MLP,
    GatedRow,
    Heads,
    InverseRootRow,
    O,
    RootRow,
    T,
    eps,
    sizes,
    skeleton,
)
from hanok.model.families.gemma import CAUSAL, GAIN, TANH
from hanok.model.families.pattern import Layers, WindowRow, windows
from hanok.model.families.rows import BLOCK, RopeRow
from hanok.model.families.rule import Rule
from hanok.model.families.table import Family, Json, Key


def alternating(theirs: Json, depth: int) -> Sequence[str]:
    """Return local and global layers in turn."""
    return [("local", "global")[layer % 2] for layer in range(depth)]


SANDWICH = (
    Rule(T + "input_layernorm.weight", O + "mixer_norm.weight"),
    Rule(T + "post_attention_layernorm.weight", O + "mixer_after.weight"),
    Rule(T + "pre_feedforward_layernorm.weight", O + "ffn_norm.weight"),
    Rule(T + "post_feedforward_layernorm.weight", O + "ffn_after.weight"),
)

GEMMA2 = FAMILIES.register("gemma2", paper="Gemma Team 2024, arXiv 2408.00118")(
    Family(
        model_type="gemma2",
        architecture="Gemma2ForCausalLM",
        skeleton=skeleton(norm=GAIN, block={"wiring": "sandwich"}),
        config=(
            Layers(
                rows=(
                    *sizes(context=8192, embeddings="tied"),
                    HIDDEN,
                    eps(1e-6),
                    RootRow(),
                    GatedRow("hidden_activation", default=TANH),
                    ATTENTION_BIAS,
                    Heads(4, 256),
                    RopeRow(BLOCK + "mixer.position"),
                    InverseRootRow("query_pre_attn_scalar", BLOCK + "mixer.scale", 256),
                    Key("attn_logit_softcapping", (BLOCK + "mixer.softcap",), 50.0),
                    Key("final_logit_softcapping", ("head.softcap",), 30.0),
                    CAUSAL,
                ),
                kinds=(windows(alternating, local=(WindowRow(4096),)),),
            ),
        ),
        weights=(*ENDS, *SANDWICH, *BIASED_ATTENTION, *MLP),
        base="model.",
    )
)
