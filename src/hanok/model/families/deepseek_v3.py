"""DeepSeek-V3 and R1: latent attention, a few dense layers, then many small experts balanced by a bias."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.rows import RopeRow, flag
from hanok.model.families.rule import DROP, TIED, Rule, layers
from hanok.model.families.table import REQUIRED, Always, Family, Json, Key, get, put

DENSE, MOE = "layers.dense.", "layers.moe."
ROPE = DENSE + "mixer.position"
SKELETON: Json = {
    "layers": {
        "dense": {
            "mixer": {"kind": "mla", "position": {"kind": "rope"}, "norm": {"kind": "rmsnorm", "eps": 1e-6}},
            "ffn": {"kind": "swiglu"},
            "norm": {"kind": "rmsnorm"},
        },
        "moe": {
            "ffn": {"kind": "moe", "expert": {"kind": "swiglu"}, "router": {"kind": "sigmoid_group"}},
            "norm": {"kind": "rmsnorm"},
        },
    },
    "norm": {"kind": "rmsnorm"},
}


@dataclass(frozen=True)
class DepthRow:
    """How many layers there are, and how many of the first are dense."""

    def read(self, theirs: Json, ours: Json) -> None:
        depth, dense = theirs.get("num_hidden_layers"), theirs.get("first_k_dense_replace") or 0
        if not isinstance(depth, int) or dense < 0:
            raise UsageError("config.json needs a whole number 'num_hidden_layers', and 'first_k_dense_replace' >= 0")
        dense = min(dense, depth)
        ours |= {"depth": depth, "pattern": ["dense"] * dense + ["moe"] * (depth - dense)}

    def write(self, ours: Json, theirs: Json) -> None:
        pattern = list(ours["pattern"])
        dense = pattern.count("dense")
        if pattern != ["dense"] * dense + ["moe"] * (ours["depth"] - dense):
            raise KeyError("pattern")
        theirs |= {"num_hidden_layers": ours["depth"], "first_k_dense_replace": dense}


@dataclass(frozen=True)
class SharedExpertsRow:
    """Their shared experts are one of ours: n of width w make one of width n w."""

    def read(self, theirs: Json, ours: Json) -> None:
        width = theirs.get("moe_intermediate_size")
        if not isinstance(width, int):
            raise UsageError("config.json needs a whole number 'moe_intermediate_size'")
        put(ours, MOE + "ffn.expert.hidden", width)
        put(ours, MOE + "ffn.shared", (theirs.get("n_shared_experts") or 0) * width or None)

    def write(self, ours: Json, theirs: Json) -> None:
        width, shared = get(ours, MOE + "ffn.expert.hidden"), get(ours, MOE + "ffn.shared") or 0
        theirs |= {"moe_intermediate_size": width, "n_shared_experts": shared // width}


@dataclass(frozen=True)
class LatentRow:
    """What the layers' attention shares, written once in the dense template; YaRN changes the scale of scores too."""

    keys: dict[str, str] = field(
        default_factory=lambda: {
            "num_attention_heads": "heads",
            "kv_lora_rank": "kv_rank",
            "q_lora_rank": "q_rank",
            "qk_nope_head_dim": "nope_dim",
            "qk_rope_head_dim": "rope_dim",
            "v_head_dim": "v_dim",
        }
    )

    def read(self, theirs: Json, ours: Json) -> None:
        mixer = get(ours, DENSE + "mixer")
        for key, name in self.keys.items():
            if key not in theirs:
                raise UsageError(f"config.json has no {key!r}")
            mixer[name] = theirs[key]
        heads, shared = theirs["num_attention_heads"], theirs.get("num_key_value_heads")
        if shared not in (None, heads):
            raise UsageError(f"config.json: latent attention has no shared heads (num_key_value_heads {shared!r})")
        mixer["scale"] = (mixer["nope_dim"] + mixer["rope_dim"]) ** -0.5 * stretch(theirs) ** 2
        put(ours, MOE + "mixer", mixer)

    def write(self, ours: Json, theirs: Json) -> None:
        mixer = get(ours, DENSE + "mixer")
        if mixer != get(ours, MOE + "mixer") or mixer["kind"] != "mla":
            raise KeyError("mixer")
        theirs |= {key: mixer[name] for key, name in self.keys.items()}
        theirs |= {"num_key_value_heads": mixer["heads"], "head_dim": mixer["rope_dim"]}
        theirs["qk_head_dim"] = mixer["nope_dim"] + mixer["rope_dim"]


@dataclass(frozen=True)
class AheadRow:
    """Modules that predict further ahead, each with a block of the sparse kind; files without their tensors have none.

    transformers writes the key whether it saved them or not, so `load_model` looks at what there is.
    """

    def read(self, theirs: Json, ours: Json) -> None:
        depth = theirs.get("num_nextn_predict_layers") or 0
        if depth:
            ours["mtp"] = {"depth": depth, "layer": "moe"}

    def write(self, ours: Json, theirs: Json) -> None:
        if ours["mtp"] is None:
            return
        if ours["mtp"]["layer"] != "moe":
            raise KeyError("mtp")
        theirs["num_nextn_predict_layers"] = ours["mtp"]["depth"]


def stretch(theirs: Json) -> float:
    """Return 0.1 m ln(factor) + 1 of YaRN with mscale_all_dim m, by whose square scores are scaled; else 1."""
    scaling: Any = theirs.get("rope_parameters") or theirs.get("rope_scaling") or {}
    kind, factor = scaling.get("rope_type", scaling.get("type", "default")), scaling.get("factor", 1.0)
    weight = scaling.get("mscale_all_dim") or 0
    return 1.0 if kind == "default" or not weight or factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def shared_rows() -> tuple[Any, ...]:
    """Return the rows that DeepSeek-V2 and V3 share, rotary positions before attention."""
    return (
        Key("vocab_size", ("vocab",), REQUIRED),
        Key("hidden_size", ("dim",), REQUIRED),
        DepthRow(),
        Key("intermediate_size", (DENSE + "ffn.hidden",), REQUIRED),
        Key("max_position_embeddings", ("context",), 2048),
        Key("rms_norm_eps", (DENSE + "norm.eps", MOE + "norm.eps", "norm.eps"), 1e-6),
        Key("tie_word_embeddings", ("embeddings",), **flag("tied", "untied")),
        Key("attention_bias", (DENSE + "mixer.bias",), **flag("all", "none")),
        RopeRow(ROPE),
        SharedExpertsRow(),
        Key("n_routed_experts", (MOE + "ffn.experts",), REQUIRED),
        Key("num_experts_per_tok", (MOE + "ffn.router.per_token",), REQUIRED),
        Always("hidden_act", "silu"),
        Always("attention_dropout", 0.0, also=(0, None)),
        LatentRow(),
    )


def shared_rules() -> tuple[Rule, ...]:
    """Return the tensor names that DeepSeek-V2 and V3 share."""
    return (
        Rule("model.embed_tokens.weight", "embed.weight"),
        Rule("model.norm.weight", "norm.weight"),
        Rule("lm_head.weight", "head.weight", TIED),
        *block_rules("model.layers.{l}.", "blocks.{l}."),
    )


def block_rules(t: str, o: str) -> tuple[Rule, ...]:
    """Return the tensor names of a layer, theirs behind the prefix t and ours behind o."""
    attention = [("q_proj", "q"), ("q_a_proj", "q_down"), ("q_a_layernorm", "q_norm"), ("q_b_proj", "q_up")]
    attention += [("kv_a_proj_with_mqa", "kv_down"), ("kv_a_layernorm", "kv_norm"), ("kv_b_proj", "kv_up")]
    parts = ("gate", "up", "down")
    return (
        Rule(t + "self_attn.rotary_emb.inv_freq", op=DROP),
        Rule(t + "input_layernorm.weight", o + "mixer_norm.weight"),
        Rule(t + "post_attention_layernorm.weight", o + "ffn_norm.weight"),
        *(Rule(f"{t}self_attn.{a}.weight", f"{o}mixer.{b}.weight") for a, b in attention),
        *(Rule(f"{t}self_attn.{a}.bias", f"{o}mixer.{b}.bias") for a, b in attention if b in ("q_down", "kv_down")),
        *layers(t + "self_attn.", o + "mixer.", [("o_proj", "o")]),
        *(Rule(f"{t}mlp.{a}_proj.weight", f"{o}ffn.{a}.weight") for a in parts),
        Rule(t + "mlp.gate.weight", o + "ffn.router.weight"),
        *(Rule(f"{t}mlp.experts.{{e}}.{a}_proj.weight", f"{o}ffn.experts.{a}.weight") for a in parts),
        *(Rule(f"{t}mlp.shared_experts.{a}_proj.weight", f"{o}ffn.shared.{a}.weight") for a in parts),
    )


def ahead_rules() -> tuple[Rule, ...]:
    """Return the tensor names of the modules that predict further ahead, which go on counting layers.

    Their embedding and head are copies of the model's own, as the published description of the files says; they are
    not read, and not written.
    """
    t, o = "model.layers.{m}.", "mtp.{m}."
    return (
        Rule(t + "embed_tokens.weight", op=DROP),
        Rule(t + "shared_head.head.weight", op=DROP),
        Rule(t + "enorm.weight", o + "token_norm.weight"),
        Rule(t + "hnorm.weight", o + "state_norm.weight"),
        Rule(t + "eh_proj.weight", o + "proj.weight"),
        Rule(t + "shared_head.norm.weight", o + "norm.weight"),
        *block_rules(t, o + "block."),
        Rule(t + "mlp.gate.e_score_correction_bias", o + "block.ffn.router.bias"),
    )


DEEPSEEK_V3 = FAMILIES.register("deepseek_v3", paper="DeepSeek-AI 2024, arXiv 2412.19437; 2025 (R1), arXiv 2501.12948")(
    Family(
        model_type="deepseek_v3",
        architecture="DeepseekV3ForCausalLM",
        skeleton=SKELETON,
        config=(
            Always("scoring_func", "sigmoid"),
            Always("topk_method", "noaux_tc"),
            Always("moe_layer_freq", 1),
            Key(
                "rope_interleave",
                (ROPE + ".layout",),
                True,
                lambda x: "interleaved" if x else "half",
                lambda word: {"interleaved": True, "half": False}[word],
            ),
            Key("norm_topk_prob", (MOE + "ffn.router.normalise",), **flag("sum", "none") | {"default": True}),
            Key("routed_scaling_factor", (MOE + "ffn.router.scale",), 1.0),
            Key("n_group", (MOE + "ffn.router.groups",), 1),
            Key("topk_group", (MOE + "ffn.router.groups_per_token",), 1),
            *shared_rows(),
            AheadRow(),
        ),
        weights=(
            *shared_rules(),
            Rule("model.layers.{l}.mlp.gate.e_score_correction_bias", "blocks.{l}.ffn.router.bias"),
            *ahead_rules(),
        ),
        base="model.",
    )
)
