"""GPT-J: attention and feed-forward side by side behind one norm, rotary positions in pairs of neighbours."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.gpt import EPS, GPT, ActivationRow, Either, InnerRow, merged
from hanok.model.families.rows import BLOCK, flag
from hanok.model.families.rule import DROP, TIED, Rule, layers
from hanok.model.families.table import REQUIRED, Family, Key

T, O = "transformer.h.{l}.", "blocks.{l}."

GPTJ = FAMILIES.register("gptj", paper="Wang and Komatsuzaki 2021, github.com/kingoflolz/mesh-transformer-jax")(
    Family(
        model_type="gptj",
        architecture="GPTJForCausalLM",
        skeleton=merged(
            GPT,
            {
                "layers": {
                    "block": {
                        "mixer": {"position": {"kind": "rope", "layout": "interleaved"}, "bias": "none"},
                        "wiring": "parallel",
                    }
                },
                "head": {"bias": "all"},
            },
        ),
        config=(
            Either(("vocab_size",), ("vocab",)),
            Either(("n_embd",), ("dim",)),
            Either(("n_layer",), ("depth",)),
            Either(("n_head",), (BLOCK + "mixer.heads",)),
            Either(("n_positions",), ("context",), 2048),
            Either(("rotary_dim",), (BLOCK + "mixer.position.dims",), REQUIRED),
            InnerRow("n_inner"),
            ActivationRow("activation_function", "gelu_new"),
            Key("layer_norm_epsilon", EPS, 1e-5),
            Key("tie_word_embeddings", ("embeddings",), **flag("tied", "untied")),
        ),
        weights=(
            Rule("transformer.wte.weight", "embed.weight"),
            *layers("transformer.ln_f", "norm", [("", "")]),
            Rule("lm_head.weight", "head.weight", TIED),
            Rule("lm_head.bias", "head.bias"),
            *layers(T, O, [("ln_1", "mixer_norm"), ("mlp.fc_in", "ffn.up"), ("mlp.fc_out", "ffn.down")]),
            *(Rule(f"{T}attn.{a}_proj.weight", f"{O}mixer.{a}.weight") for a in "qkv"),
            Rule(T + "attn.out_proj.weight", O + "mixer.o.weight"),
            Rule(T + "attn.bias", op=DROP),
            Rule(T + "attn.masked_bias", op=DROP),
        ),
        base="transformer.",
    )
)
