"""Phi-3, 3.5 and 4: LLaMA's layers with fused projections, sliding windows, LongRoPE."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.gpt import Either
from hanok.model.families.rows import BLOCK, TRANSFORMER, HeadsRow, RopeRow, flag
from hanok.model.families.rule import DROP, ROWS, TIED, Rule
from hanok.model.families.table import REQUIRED, Always, Family, Key

T, O = "model.layers.{l}.", "blocks.{l}."

PHI3 = FAMILIES.register("phi3", paper="Abdin et al. 2024, arXiv 2404.14219")(
    Family(
        model_type="phi3",
        architecture="Phi3ForCausalLM",
        skeleton=TRANSFORMER,
        config=(
            Either(("vocab_size",), ("vocab",)),
            Either(("hidden_size",), ("dim",)),
            Either(("num_hidden_layers",), ("depth",)),
            Either(("max_position_embeddings",), ("context",), 4096),
            HeadsRow(),
            Key("intermediate_size", (BLOCK + "ffn.hidden",), REQUIRED),
            Key("sliding_window", (BLOCK + "mixer.window",)),
            Key("rms_norm_eps", (BLOCK + "norm.eps", "norm.eps"), 1e-5),
            Key("tie_word_embeddings", ("embeddings",), **flag("tied", "untied")),
            RopeRow(BLOCK + "mixer.position"),
            Always("hidden_act", "silu", also=("swish",)),
        ),
        weights=(
            Rule("model.embed_tokens.weight", "embed.weight"),
            Rule("model.norm.weight", "norm.weight"),
            Rule("lm_head.weight", "head.weight", TIED),
            Rule(T + "self_attn.rotary_emb.inv_freq", op=DROP),
            Rule(T + "input_layernorm.weight", O + "mixer_norm.weight"),
            Rule(T + "post_attention_layernorm.weight", O + "ffn_norm.weight"),
            Rule(T + "self_attn.qkv_proj.weight", tuple(f"{O}mixer.{a}.weight" for a in "qkv"), ROWS),
            Rule(T + "self_attn.o_proj.weight", O + "mixer.o.weight"),
            Rule(T + "mlp.gate_up_proj.weight", (O + "ffn.gate.weight", O + "ffn.up.weight"), ROWS),
            Rule(T + "mlp.down_proj.weight", O + "ffn.down.weight"),
        ),
        base="model.",
    )
)
