"""Jamba: Mamba layers, one of attention in several, and every so often a mixture of experts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.rows import flag
from hanok.model.families.rule import TIED, Rule
from hanok.model.families.state_rows import BIASES, read_rank, selective_rules
from hanok.model.families.table import REQUIRED, Always, Family, Json, Key

T, O = "model.layers.{l}.", "blocks.{l}."
WHOLE = {  # whole numbers, and what an absent one means
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_experts": 16,
    "num_experts_per_tok": 2,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "attn_layer_period": 8,
    "attn_layer_offset": 4,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
}
LONGEST = 10_000  # layers after which the kinds must repeat


@dataclass(frozen=True)
class LayersRow:
    """The four kinds of layer (mamba or attention, with a dense network or experts) and the pattern of two periods."""

    def read(self, theirs: Json, ours: Json) -> None:
        known = {key: theirs.get(key, default) for key, default in WHOLE.items()}
        for key, value in known.items():
            if not isinstance(value, int) or value < (0 if key.endswith("offset") else 1):
                raise UsageError(f"config.json: {key} must be a whole number, not {value!r}")
        cycle = _cycle(known)
        if cycle > LONGEST:
            raise UsageError(f"config.json: the kinds of layer repeat only after {cycle} layers")
        norm = {"kind": "rmsnorm", "eps": theirs.get("rms_norm_eps", 1e-6)}
        mixers = {"mamba": _mamba(theirs, known, norm), "attention": _attention(theirs, known)}
        ffns = {"dense": _dense(known), "experts": _experts(known)}
        attends = [i % known["attn_layer_period"] == known["attn_layer_offset"] for i in range(cycle)]
        routes = [i % known["expert_layer_period"] == known["expert_layer_offset"] for i in range(cycle)]
        pattern = [
            ("attention" if attend else "mamba") + ("_experts" if route and known["num_experts"] > 1 else "")
            for attend, route in zip(attends, routes, strict=True)
        ]
        ours["pattern"] = pattern
        ours["layers"] = {
            name: {
                "mixer": mixers[name.removesuffix("_experts")],
                "ffn": ffns["experts" if name.endswith("_experts") else "dense"],
                "norm": norm,
            }
            for name in sorted(set(pattern))
        }
        ours["norm"] = norm

    def write(self, ours: Json, theirs: Json) -> None:
        pattern = ours["pattern"]
        mamba, attention = _first(ours, "mixer", "mamba"), _first(ours, "mixer", "gqa")
        dense, experts = _first(ours, "ffn", "swiglu"), _first(ours, "ffn", "moe")
        if not (mamba or attention) or not (dense or experts):
            raise KeyError("layers")
        theirs["rms_norm_eps"] = ours["norm"]["eps"]
        theirs["intermediate_size"] = (dense or experts["expert"])["hidden"]
        if mamba:
            proj, conv = next(flags for flags, word in BIASES.items() if word == mamba["bias"])
            theirs |= {"mamba_d_state": mamba["state"], "mamba_d_conv": mamba["conv"], "mamba_dt_rank": mamba["rank"]}
            theirs |= {"mamba_expand": mamba["width"] // ours["dim"], "mamba_conv_bias": conv, "mamba_proj_bias": proj}
        _write_period("attn", [name.startswith("attention") for name in pattern], theirs)
        if attention:
            theirs["num_attention_heads"], theirs["num_key_value_heads"] = attention["heads"], attention["kv_heads"]
            if attention["head_dim"] * attention["heads"] != ours["dim"]:
                theirs["head_dim"] = attention["head_dim"]
        theirs["num_experts"] = experts["experts"] if experts else 1
        if experts:
            theirs["num_experts_per_tok"] = experts["router"]["per_token"]
            _write_period("expert", [name.endswith("_experts") for name in pattern], theirs)


def _first(ours: Json, part: str, kind: str) -> Json:
    """Return the config of the first part of a kind, empty where there is none."""
    found = (block[part] or {} for block in ours["layers"].values())
    return next((config for config in found if config.get("kind") == kind), {})


def _cycle(known: dict[str, int]) -> int:
    """Return after how many layers the kinds repeat."""
    routed = known["expert_layer_period"] if known["num_experts"] > 1 else 1
    return math.lcm(known["attn_layer_period"], routed)


def _write_period(word: str, marks: list[bool], theirs: Json) -> None:
    """Say marks[i] as i % period == offset; a pattern that cannot be said so is told by reading it again."""
    if True not in marks:
        theirs[f"{word}_layer_period"], theirs[f"{word}_layer_offset"] = len(marks) + 1, len(marks)
        return
    offset = marks.index(True)
    theirs[f"{word}_layer_period"] = (marks[offset + 1 :] + marks).index(True) + 1
    theirs[f"{word}_layer_offset"] = offset


def _mamba(theirs: Json, known: dict[str, int], norm: Json) -> Json:
    biases = bool(theirs.get("mamba_proj_bias", False)), bool(theirs.get("mamba_conv_bias", True))
    return {
        "kind": "mamba",
        "width": known["mamba_expand"] * known["hidden_size"],
        "state": known["mamba_d_state"],
        "conv": known["mamba_d_conv"],
        "rank": read_rank(theirs.get("mamba_dt_rank", "auto")),
        "bias": BIASES[biases],
        "norm": norm,
    }


def _attention(theirs: Json, known: dict[str, int]) -> Json:
    heads = known["num_attention_heads"]
    return {
        "kind": "gqa",
        "heads": heads,
        "kv_heads": theirs.get("num_key_value_heads", 8) or heads,
        "head_dim": theirs.get("head_dim") or known["hidden_size"] // heads,
        "position": {"kind": "none"},
    }


def _dense(known: dict[str, int]) -> Json:
    return {"kind": "swiglu", "hidden": known["intermediate_size"]}


def _experts(known: dict[str, int]) -> Json:
    router = {"kind": "topk", "per_token": known["num_experts_per_tok"], "normalise": "none"}
    return {"kind": "moe", "experts": known["num_experts"], "router": router, "expert": _dense(known)}


JAMBA = FAMILIES.register("jamba", paper="Lieber et al. 2024, arXiv 2403.19887")(
    Family(
        model_type="jamba",
        architecture="JambaForCausalLM",
        skeleton={},
        config=(
            Key("vocab_size", ("vocab",), REQUIRED),
            Key("hidden_size", ("dim",), REQUIRED),
            Key("num_hidden_layers", ("depth",), REQUIRED),
            Key("max_position_embeddings", ("context",), 262144),
            Key("tie_word_embeddings", ("embeddings",), **flag("tied", "untied")),
            LayersRow(),
            Always("hidden_act", "silu", also=("swish",)),
            Always("attention_dropout", 0.0, also=(0, None)),
        ),
        weights=(
            Rule("model.embed_tokens.weight", "embed.weight"),
            Rule("model.final_layernorm.weight", "norm.weight"),
            Rule("lm_head.weight", "head.weight", TIED),
            Rule(T + "input_layernorm.weight", O + "mixer_norm.weight"),
            Rule(T + "pre_ff_layernorm.weight", O + "ffn_norm.weight"),
            *(Rule(f"{T}self_attn.{a}_proj.weight", f"{O}mixer.{a}.weight") for a in "qkvo"),
            *selective_rules(T + "mamba.", O + "mixer."),
            *(Rule(f"{T}mamba.{a}_layernorm.weight", f"{O}mixer.{a}_norm.weight") for a in ("dt", "b", "c")),
            Rule(T + "feed_forward.router.weight", O + "ffn.router.weight"),
            *(
                rule
                for a in ("gate", "up", "down")
                for rule in (
                    Rule(f"{T}feed_forward.{a}_proj.weight", f"{O}ffn.{a}.weight"),
                    Rule(f"{T}feed_forward.experts.{{e}}.{a}_proj.weight", f"{O}ffn.experts.{a}.weight"),
                )
            ),
        ),
        base="model.",
    )
)
