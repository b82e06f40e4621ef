"""Cohere's Command R: parallel branches behind one norm, turned pairs side by side, gains of each head's own."""

from __future__ import annotations

from dataclasses import dataclass

from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ATTENTION_BIAS,
    BIASED_ATTENTION,
    ENDS,
    HIDDEN,
    MLP,
    GatedRow,
    Heads,
    O,
    T,
    sizes,
    skeleton,
)
from hanok.model.families.gpt import EPS
from hanok.model.families.rows import BLOCK, RopeRow
from hanok.model.families.rule import Rule
from hanok.model.families.table import Family, Json, Key, get, put

GAIN = {"kind": "layernorm", "bias": "none"}


@dataclass(frozen=True)
class NormedHeads:
    """Whether queries and keys are normalised head by head, and multiplied by gains of each head's own."""

    def read(self, theirs: Json, ours: Json) -> None:
        if theirs.get("use_qk_norm"):
            bare = GAIN | {"weight": "none", "eps": theirs.get("layer_norm_eps", 1e-5)}
            put(ours, BLOCK + "mixer.qk_norm", bare)
            put(ours, BLOCK + "mixer.qk_gain", "each")

    def write(self, ours: Json, theirs: Json) -> None:
        theirs["use_qk_norm"] = get(ours, BLOCK + "mixer.qk_norm") is not None


COHERE = FAMILIES.register("cohere", paper="Cohere 2024, Command R; Aryabumi et al. 2024, Aya 23, arXiv 2405.15032")(
    Family(
        model_type="cohere",
        architecture="CohereForCausalLM",
        skeleton=skeleton(
            mixer={"position": {"kind": "rope", "layout": "interleaved"}}, block={"wiring": "parallel", "norm": GAIN}
        )
        | {"norm": GAIN},
        config=(
            *sizes(context=8192, embeddings="tied"),
            HIDDEN,
            Key("layer_norm_eps", EPS, 1e-5),
            GatedRow(),
            ATTENTION_BIAS,
            Heads(),
            RopeRow(BLOCK + "mixer.position", default_theta=500000.0),
            NormedHeads(),
            Key("logit_scale", ("head.scale",), 0.0625),
        ),
        weights=(
            *ENDS,
            Rule(T + "input_layernorm.weight", O + "mixer_norm.weight"),
            *BIASED_ATTENTION,
            *MLP,
            *(Rule(f"{T}self_attn.{a}_norm.weight", f"{O}mixer.{a}_gain") for a in "qk"),
        ),
        base="model.",
    )
)
