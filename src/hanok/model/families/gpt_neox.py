"""GPT-NeoX and Pythia: two norms for two parallel branches, a part of each head rotated."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.gpt import EPS, GPT, ActivationRow, Either, merged
from hanok.model.families.rows import BLOCK, RopeRow, flag
from hanok.model.families.rule import DROP, TIED, Interleaved, Rule, layers
from hanok.model.families.table import REQUIRED, Family, Key

T, O = "gpt_neox.layers.{l}.", "blocks.{l}."
HEADS = "layers.block.mixer.heads"

GPT_NEOX = FAMILIES.register("gpt_neox", paper="Black et al. 2022, arXiv 2204.06745")(
    Family(
        model_type="gpt_neox",
        architecture="GPTNeoXForCausalLM",
        skeleton=merged(GPT, {"layers": {"block": {"mixer": {"position": {"kind": "rope"}}}}}),
        config=(
            Either(("vocab_size",), ("vocab",)),
            Either(("hidden_size",), ("dim",)),
            Either(("num_hidden_layers",), ("depth",)),
            Either(("num_attention_heads",), (BLOCK + "mixer.heads",)),
            Either(("max_position_embeddings",), ("context",), 2048),
            Key("intermediate_size", (BLOCK + "ffn.hidden",), REQUIRED),
            ActivationRow("hidden_act", "gelu"),
            Key("layer_norm_eps", EPS, 1e-5),
            Key("attention_bias", (BLOCK + "mixer.bias",), **(flag("all", "none") | {"default": True})),
            Key("use_parallel_residual", (BLOCK + "wiring",), **(flag("parallel_norms", "pre") | {"default": True})),
            Key("tie_word_embeddings", ("embeddings",), **flag("tied", "untied")),
            RopeRow(BLOCK + "mixer.position", theta="rotary_emb_base", fraction="rotary_pct", default_fraction=0.25),
        ),
        weights=(
            Rule("gpt_neox.embed_in.weight", "embed.weight"),
            *layers("gpt_neox.final_layer_norm", "norm", [("", "")]),
            Rule("embed_out.weight", "head.weight", TIED),
            Rule("lm_head.weight", "head.weight", TIED),
            *layers(T, O, [("input_layernorm", "mixer_norm"), ("post_attention_layernorm", "ffn_norm")]),
            *(
                Rule(f"{T}attention.query_key_value.{p}", tuple(f"{O}mixer.{a}.{p}" for a in "qkv"), Interleaved(HEADS))
                for p in ("weight", "bias")
            ),
            *layers(
                T,
                O,
                [("attention.dense", "mixer.o"), ("mlp.dense_h_to_4h", "ffn.up"), ("mlp.dense_4h_to_h", "ffn.down")],
            ),
            Rule(T + "attention.bias", op=DROP),
            Rule(T + "attention.masked_bias", op=DROP),
            Rule(T + "attention.rotary_emb.inv_freq", op=DROP),
        ),
        base="gpt_neox.",
    )
)
