"""LLaMA 1, 2, 3, 3.1, 3.2 and everything that is saved as `LlamaForCausalLM`."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.rows import BLOCK, TRANSFORMER, HeadsRow, RopeRow, flag
from hanok.model.families.rule import DROP, TIED, Rule, layers
from hanok.model.families.table import REQUIRED, Always, Family, Key

T, O = "model.layers.{l}.", "blocks.{l}."

LLAMA = FAMILIES.register("llama", paper="Touvron et al. 2023, arXiv 2302.13971")(
    Family(
        model_type="llama",
        architecture="LlamaForCausalLM",
        skeleton=TRANSFORMER,
        config=(
            Key("vocab_size", ("vocab",), REQUIRED),
            Key("hidden_size", ("dim",), REQUIRED),
            Key("num_hidden_layers", ("depth",), REQUIRED),
            Key("intermediate_size", (BLOCK + "ffn.hidden",), REQUIRED),
            Key("max_position_embeddings", ("context",), 2048),
            Key("rms_norm_eps", (BLOCK + "norm.eps", "norm.eps"), 1e-6),
            Key("tie_word_embeddings", ("embeddings",), **flag("tied", "untied")),
            Key("attention_bias", (BLOCK + "mixer.bias",), **flag("all", "none")),
            Key("mlp_bias", (BLOCK + "ffn.bias",), **flag("all", "none")),
            HeadsRow(),
            RopeRow(BLOCK + "mixer.position"),
            Always("hidden_act", "silu"),
            Always("attention_dropout", 0.0, also=(0, None)),
        ),
        weights=(
            Rule("model.embed_tokens.weight", "embed.weight"),
            Rule("model.norm.weight", "norm.weight"),
            Rule("lm_head.weight", "head.weight", TIED),
            Rule(T + "self_attn.rotary_emb.inv_freq", op=DROP),
            Rule(T + "input_layernorm.weight", O + "mixer_norm.weight"),
            Rule(T + "post_attention_layernorm.weight", O + "ffn_norm.weight"),
            *layers(T + "self_attn.", O + "mixer.", [(f"{a}_proj", a) for a in "qkvo"]),
            *layers(T + "mlp.", O + "ffn.", [(f"{a}_proj", a) for a in ("gate", "up", "down")]),
        ),
        base="model.",
    )
)
