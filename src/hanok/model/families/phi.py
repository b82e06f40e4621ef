"""Phi-1, 1.5 and 2: parallel branches behind one norm, biases everywhere, a part of each head rotated."""

from __future__ import annotations

from dataclasses import dataclass

from hanok.model.families import FAMILIES
from hanok.model.families.gpt import EPS, GPT, ActivationRow, Either, merged
from hanok.model.families.rows import BLOCK, HeadsRow, RopeRow, flag
from hanok.model.families.rule import DROP, TIED, Rule, layers
from hanok.model.families.table import REQUIRED, Family, Json, Key, get, put

T, O = "model.layers.{l}.", "blocks.{l}."


@dataclass(frozen=True)
class QKNormRow:
    """Layer norms of queries and keys, head by head, with the epsilon of the other norms."""

    def read(self, theirs: Json, ours: Json) -> None:
        if theirs.get("qk_layernorm"):
            put(ours, BLOCK + "mixer.qk_norm", {"kind": "layernorm", "eps": get(ours, BLOCK + "norm.eps")})

    def write(self, ours: Json, theirs: Json) -> None:
        theirs["qk_layernorm"] = get(ours, BLOCK + "mixer.qk_norm") is not None


PHI = FAMILIES.register("phi", paper="Gunasekar et al. 2023, arXiv 2306.11644; Li et al. 2023, arXiv 2309.05463")(
    Family(
        model_type="phi",
        architecture="PhiForCausalLM",
        skeleton=merged(
            GPT,
            {
                "layers": {"block": {"mixer": {"position": {"kind": "rope"}}, "wiring": "parallel"}},
                "head": {"bias": "all"},
            },
        ),
        config=(
            Either(("vocab_size",), ("vocab",)),
            Either(("hidden_size",), ("dim",)),
            Either(("num_hidden_layers",), ("depth",)),
            Either(("max_position_embeddings",), ("context",), 2048),
            HeadsRow(),
            Key("intermediate_size", (BLOCK + "ffn.hidden",), REQUIRED),
            ActivationRow("hidden_act", "gelu_new"),
            Key("layer_norm_eps", EPS, 1e-5),
            Key("tie_word_embeddings", ("embeddings",), **flag("tied", "untied")),
            QKNormRow(),
            RopeRow(BLOCK + "mixer.position", default_fraction=0.5),
        ),
        weights=(
            Rule("model.embed_tokens.weight", "embed.weight"),
            *layers("model.final_layernorm", "norm", [("", "")]),
            Rule("lm_head.weight", "head.weight", TIED),
            Rule("lm_head.bias", "head.bias"),
            Rule(T + "self_attn.rotary_emb.inv_freq", op=DROP),
            *layers(T + "self_attn.", O + "mixer.", [(f"{a}_proj", a) for a in "qkv"]),
            *layers(
                T + "self_attn.", O + "mixer.", [("dense", "o"), ("q_layernorm", "q_norm"), ("k_layernorm", "k_norm")]
            ),
            *layers(T, O, [("input_layernorm", "mixer_norm"), ("mlp.fc1", "ffn.up"), ("mlp.fc2", "ffn.down")]),
        ),
        base="model.",
    )
)
