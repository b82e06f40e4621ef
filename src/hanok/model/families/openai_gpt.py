"""GPT, the first: norms after the branches, and none at the end."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.gpt import GPT, ActivationRow, Either, merged
from hanok.model.families.rows import BLOCK, flag
from hanok.model.families.rule import COLUMNS, DROP, TIED, TRANSPOSE, Rule, layers
from hanok.model.families.table import Family, Key

T, O = "transformer.h.{l}.", "blocks.{l}."

OPENAI_GPT = FAMILIES.register("openai-gpt", paper="Radford et al. 2018, Improving Language Understanding")(
    Family(
        model_type="openai-gpt",
        architecture="OpenAIGPTLMHeadModel",
        skeleton=merged(
            GPT,
            {"layers": {"block": {"wiring": "post"}}, "norm": None, "embed": {"position": {"kind": "learned"}}},
        ),
        config=(
            Either(("vocab_size",), ("vocab",)),
            Either(("n_embd",), ("dim",)),
            Either(("n_layer",), ("depth",)),
            Either(("n_head",), (BLOCK + "mixer.heads",)),
            Either(("n_positions",), ("context", "embed.position.length"), 512),
            # This family's "gelu" is the approximation: it had no other.
            ActivationRow(
                "afn", "gelu", (("gelu", "gelu_tanh"), ("relu", "relu"), ("silu", "silu"), ("swish", "silu"))
            ),
            Key("layer_norm_epsilon", (BLOCK + "norm.eps",), 1e-5),
            Key("tie_word_embeddings", ("embeddings",), **(flag("tied", "untied") | {"default": True})),
        ),
        weights=(
            Rule("transformer.tokens_embed.weight", "embed.weight"),
            Rule("transformer.positions_embed.weight", "embed.position.weight"),
            Rule("lm_head.weight", "head.weight", TIED),
            *layers(T, O, [("ln_1", "mixer_norm"), ("ln_2", "ffn_norm")]),
            *(
                Rule(f"{T}attn.c_attn.{p}", tuple(f"{O}mixer.{a}.{p}" for a in "qkv"), COLUMNS)
                for p in ("weight", "bias")
            ),
            *(
                Rule(f"{T}{a}.{p}", f"{O}{b}.{p}", TRANSPOSE)
                for a, b in (("attn.c_proj", "mixer.o"), ("mlp.c_fc", "ffn.up"), ("mlp.c_proj", "ffn.down"))
                for p in ("weight", "bias")
            ),
            Rule(T + "attn.bias", op=DROP),
            Rule("transformer.position_ids", op=DROP),
        ),
        base="transformer.",
    )
)
