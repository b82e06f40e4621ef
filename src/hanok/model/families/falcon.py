"""Falcon in its three styles: 7B (one key head, one norm), 40B (groups, two norms), RW (ALiBi, one after the other)."""

from __future__ import annotations

from dataclasses import dataclass

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.gpt import EPS, GPT, ActivationRow, Either, head_size, merged
from hanok.model.families.rows import BLOCK, RopeRow, flag
from hanok.model.families.rule import DROP, TIED, Interleaved, Rule, layers
from hanok.model.families.table import Family, Json, Key, get, put

T, O = "transformer.h.{l}.", "blocks.{l}."
GROUPS = "layers.block.mixer.kv_heads"
MIXER = BLOCK + "mixer"
ROPE = RopeRow(MIXER + ".position")


@dataclass(frozen=True)
class StyleRow:
    """How many key heads and norms there are, and whether the branches are parallel: four keys say it together."""

    def read(self, theirs: Json, ours: Json) -> None:
        heads, groups = get(ours, MIXER + ".heads"), theirs.get("num_kv_heads")
        new, parallel = theirs.get("new_decoder_architecture"), theirs.get("parallel_attn", True)
        norms = theirs.get("num_ln_in_parallel_attn") or (2 if new else 1)
        if norms not in (1, 2) or (new and not parallel) or (norms == 2 and parallel and not new):
            raise UsageError(
                f"config.json: new_decoder_architecture = {new!r}, parallel_attn = {parallel!r} and "
                f"num_ln_in_parallel_attn = {norms!r} do not go together"
            )
        if not new and not theirs.get("multi_query", True) and groups not in (None, heads):
            raise UsageError(
                f"config.json: num_kv_heads = {groups!r} needs new_decoder_architecture, without it multi_query "
                f"decides: 1 or {heads}"
            )
        one = not new and theirs.get("multi_query", True)
        put(ours, MIXER + ".kv_heads", 1 if one else groups or heads)
        put(ours, BLOCK + "wiring", "pre" if not parallel else "parallel_norms" if norms == 2 else "parallel")

    def write(self, ours: Json, theirs: Json) -> None:
        heads, groups, wiring = (get(ours, BLOCK + path) for path in ("mixer.heads", "mixer.kv_heads", "wiring"))
        new = wiring == "parallel_norms" or (wiring == "parallel" and groups not in (1, heads))
        theirs["new_decoder_architecture"], theirs["parallel_attn"] = new, wiring != "pre"
        if new:
            theirs["num_ln_in_parallel_attn"] = 2 if wiring == "parallel_norms" else 1
            theirs["num_kv_heads"] = groups
        else:
            theirs["multi_query"] = groups == 1
            theirs["num_ln_in_parallel_attn"] = None


@dataclass(frozen=True)
class PositionRow:
    """ALiBi, which is added before scores are divided by the root of the head's size, or RoPE.

    The family's own code rounds the biases to bfloat16, which changes none of them up to 256 tokens and 8 heads; ours
    are not rounded.
    """

    def read(self, theirs: Json, ours: Json) -> None:
        if theirs.get("alibi"):
            put(ours, MIXER + ".position", {"kind": "alibi", "scale": head_size(ours) ** -0.5})
        else:
            ROPE.read(theirs, ours)

    def write(self, ours: Json, theirs: Json) -> None:
        theirs["alibi"] = get(ours, MIXER + ".position.kind") == "alibi"
        if not theirs["alibi"]:
            ROPE.write(ours, theirs)


FALCON = FAMILIES.register("falcon", paper="Almazrouei et al. 2023, arXiv 2311.16867")(
    Family(
        model_type="falcon",
        architecture="FalconForCausalLM",
        skeleton=merged(GPT, {"layers": {"block": {"mixer": {"position": {"kind": "rope"}}}}}),
        config=(
            Either(("vocab_size",), ("vocab",)),
            Either(("hidden_size", "n_embed"), ("dim",)),
            Either(("num_hidden_layers",), ("depth",)),
            Either(("num_attention_heads",), (MIXER + ".heads",)),
            Either(("max_position_embeddings",), ("context",), 2048),
            Key("ffn_hidden_size", (BLOCK + "ffn.hidden",)),
            ActivationRow("activation", "gelu"),
            Key("layer_norm_epsilon", EPS, 1e-5),
            Key("bias", (MIXER + ".bias", BLOCK + "ffn.bias"), **flag("all", "none")),
            Key("tie_word_embeddings", ("embeddings",), **(flag("tied", "untied") | {"default": True})),
            StyleRow(),
            PositionRow(),
        ),
        weights=(
            Rule("transformer.word_embeddings.weight", "embed.weight"),
            *layers("transformer.ln_f", "norm", [("", "")]),
            Rule("lm_head.weight", "head.weight", TIED),
            *layers(T, O, [("ln_attn", "mixer_norm"), ("ln_mlp", "ffn_norm")], (BLOCK + "wiring", "parallel_norms")),
            *layers(
                T,
                O,
                [("input_layernorm", "mixer_norm"), ("post_attention_layernorm", "ffn_norm")],
                (BLOCK + "wiring", "parallel", "pre"),
            ),
            *(
                Rule(
                    f"{T}self_attention.query_key_value.{p}",
                    tuple(f"{O}mixer.{a}.{p}" for a in "qkv"),
                    Interleaved(GROUPS),
                )
                for p in ("weight", "bias")
            ),
            *layers(
                T,
                O,
                [
                    ("self_attention.dense", "mixer.o"),
                    ("mlp.dense_h_to_4h", "ffn.up"),
                    ("mlp.dense_4h_to_h", "ffn.down"),
                ],
            ),
            Rule(T + "self_attention.rotary_emb.inv_freq", op=DROP),
        ),
        base="transformer.",
    )
)
