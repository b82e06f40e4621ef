"""LLaMA 1, 2, 3, 3.1, 3.2 and everything that is saved as `LlamaForCausalLM`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.table import REQUIRED, Always, Family, Json, Key, Rule, get, layers, put

BLOCK = "layers.block."
SKELETON = {
    "layers": {
        "block": {
            "mixer": {"kind": "gqa", "position": {"kind": "rope"}},
            "ffn": {"kind": "swiglu"},
            "norm": {"kind": "rmsnorm"},
        }
    },
    "norm": {"kind": "rmsnorm"},
}


@dataclass(frozen=True)
class RopeRow:
    """RoPE's base and scaling: `rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (4)."""

    ours: str

    def read(self, theirs: Json, ours: Json) -> None:
        new = theirs.get("rope_parameters") or {}
        scaling = new or theirs.get("rope_scaling") or {}
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        theta = new.get("rope_theta") or theirs.get("rope_theta") or 10000.0
        put(ours, self.ours + ".theta", float(theta))
        put(ours, self.ours + ".scaling", _read_scaling(kind, scaling, theirs))

    def write(self, ours: Json, theirs: Json) -> None:
        position = get(ours, self.ours)
        if position["kind"] != "rope":
            raise KeyError(self.ours)
        scaling = _write_scaling(position["scaling"])
        theirs["rope_theta"] = position["theta"]
        theirs["rope_scaling"] = scaling
        theirs["rope_parameters"] = {"rope_theta": position["theta"], **(scaling or {"rope_type": "default"})}


def _read_scaling(kind: str, scaling: Json, theirs: Json) -> Json | None:
    if kind == "default":
        return None
    try:
        if kind == "linear":
            return {"kind": "linear", "factor": scaling["factor"]}
        if kind == "llama3":
            context = scaling.get("original_max_position_embeddings", theirs.get("max_position_embeddings"))
            names = ("factor", "low_freq_factor", "high_freq_factor")
            return {"kind": "llama3", **{name: scaling[name] for name in names}, "original_context": context}
    except KeyError as error:
        raise UsageError(f"config.json: rope scaling {kind!r} has no {error}") from None
    raise UsageError(f"config.json: rope scaling {kind!r} is not supported (known: default, linear, llama3)")


def _write_scaling(scaling: Json | None) -> Json | None:
    if scaling is None:
        return None
    theirs: Json = {"rope_type": scaling["kind"], "factor": scaling["factor"]}
    if scaling["kind"] == "llama3":
        theirs |= {name: scaling[name] for name in ("low_freq_factor", "high_freq_factor")}
        theirs["original_max_position_embeddings"] = scaling["original_context"]
    return theirs


@dataclass(frozen=True)
class HeadsRow:
    """Heads, shared heads and their size, of which older files leave the last two to be worked out."""

    def read(self, theirs: Json, ours: Json) -> None:
        heads, dim = theirs.get("num_attention_heads"), theirs.get("hidden_size")
        if not isinstance(heads, int) or not isinstance(dim, int) or heads < 1:
            raise UsageError("config.json needs whole numbers 'hidden_size' and 'num_attention_heads'")
        put(ours, BLOCK + "mixer.heads", heads)
        put(ours, BLOCK + "mixer.kv_heads", theirs.get("num_key_value_heads") or heads)
        put(ours, BLOCK + "mixer.head_dim", theirs.get("head_dim") or dim // heads)

    def write(self, ours: Json, theirs: Json) -> None:
        mixer = get(ours, BLOCK + "mixer")
        theirs["num_attention_heads"] = mixer["heads"]
        theirs["num_key_value_heads"] = mixer["kv_heads"] or mixer["heads"]
        theirs["head_dim"] = mixer["head_dim"] or ours["dim"] // mixer["heads"]


def _flag(true: str, false: str) -> dict[str, Any]:
    """Return how a boolean of theirs reads as one of two words of ours; another word has no translation."""
    return {
        "default": False,
        "read_as": lambda value: true if value else false,
        "write_as": lambda word: {true: True, false: False}[word],
    }


T, O = "model.layers.{l}.", "blocks.{l}."

LLAMA = FAMILIES.register("llama", paper="Touvron et al. 2023, arXiv 2302.13971")(
    Family(
        model_type="llama",
        architecture="LlamaForCausalLM",
        skeleton=SKELETON,
        config=(
            Key("vocab_size", ("vocab",), REQUIRED),
            Key("hidden_size", ("dim",), REQUIRED),
            Key("num_hidden_layers", ("depth",), REQUIRED),
            Key("intermediate_size", (BLOCK + "ffn.hidden",), REQUIRED),
            Key("max_position_embeddings", ("context",), 2048),
            Key("rms_norm_eps", (BLOCK + "norm.eps", "norm.eps"), 1e-6),
            Key("tie_word_embeddings", ("embeddings",), **_flag("tied", "untied")),
            Key("attention_bias", (BLOCK + "mixer.bias",), **_flag("all", "none")),
            Key("mlp_bias", (BLOCK + "ffn.bias",), **_flag("all", "none")),
            HeadsRow(),
            RopeRow(BLOCK + "mixer.position"),
            Always("hidden_act", "silu"),
            Always("attention_dropout", 0.0, also=(0, None)),
        ),
        weights=(
            Rule("model.embed_tokens.weight", "embed.weight"),
            Rule("model.norm.weight", "norm.weight"),
            Rule("lm_head.weight", "head.weight", "tied"),
            Rule(T + "self_attn.rotary_emb.inv_freq", op="drop"),
            *layers(
                T,
                O,
                (
                    ("input_layernorm.weight", "mixer_norm.weight"),
                    ("post_attention_layernorm.weight", "ffn_norm.weight"),
                ),
            ),
            *(Rule(f"{T}self_attn.{a}_proj.{p}", f"{O}mixer.{a}.{p}") for a in "qkvo" for p in ("weight", "bias")),
            *(
                Rule(f"{T}mlp.{a}_proj.{p}", f"{O}ffn.{a}.{p}")
                for a in ("gate", "up", "down")
                for p in ("weight", "bias")
            ),
        ),
    )
)
