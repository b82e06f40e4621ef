"""BLOOM: ALiBi positions, and a norm behind the embedding."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.gpt import EPS, GPT, Either, merged
from hanok.model.families.rows import BLOCK, flag
from hanok.model.families.rule import TIED, Interleaved, Rule, layers
from hanok.model.families.table import Always, Family, Key

T, O = "transformer.h.{l}.", "blocks.{l}."
HEADS = "layers.block.mixer.heads"

BLOOM = FAMILIES.register("bloom", paper="BigScience 2022, arXiv 2211.05100")(
    Family(
        model_type="bloom",
        architecture="BloomForCausalLM",
        skeleton=merged(
            GPT,
            {
                "layers": {
                    "block": {"mixer": {"position": {"kind": "alibi"}}, "ffn": {"activation": "gelu_tanh"}},
                },
                "embed": {"norm": {"kind": "layernorm"}},
            },
        ),
        config=(
            Either(("vocab_size",), ("vocab",)),
            Either(("hidden_size", "n_embed"), ("dim",)),
            Either(("n_layer", "num_hidden_layers"), ("depth",)),
            Either(("n_head", "num_attention_heads"), (BLOCK + "mixer.heads",)),
            Either(("seq_length",), ("context",), 2048),
            Key("layer_norm_epsilon", (*EPS, "embed.norm.eps"), 1e-5),
            Key("tie_word_embeddings", ("embeddings",), **(flag("tied", "untied") | {"default": True})),
            Always("apply_residual_connection_post_layernorm", False),
        ),
        weights=(
            Rule("transformer.word_embeddings.weight", "embed.weight"),
            *layers("transformer.", "", [("word_embeddings_layernorm", "embed.norm"), ("ln_f", "norm")]),
            Rule("lm_head.weight", "head.weight", TIED),
            *layers(T, O, [("input_layernorm", "mixer_norm"), ("post_attention_layernorm", "ffn_norm")]),
            *(
                Rule(
                    f"{T}self_attention.query_key_value.{p}",
                    tuple(f"{O}mixer.{a}.{p}" for a in "qkv"),
                    Interleaved(HEADS),
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
        ),
        base="transformer.",
    )
)
