"""GPT-2, and the models that were trained with its code (Cerebras-GPT, Mistral's GPT-2, DialoGPT, ...)."""

from __future__ import annotations

from dataclasses import dataclass

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.gpt import EPS, GPT, ActivationRow, Either, InnerRow, head_size
from hanok.model.families.rows import BLOCK, flag
from hanok.model.families.rule import COLUMNS, DROP, TIED, TRANSPOSE, Rule, layers
from hanok.model.families.table import Always, Family, Json, Key, Row, get

T, O = "transformer.h.{l}.", "blocks.{l}."
DEEPER = "scale_attn_by_inverse_layer_idx"


@dataclass(frozen=True)
class ByLayer:
    """Rows about one template, of which each layer has its own when scores are divided by the layer's number too."""

    rows: tuple[Row, ...]

    def read(self, theirs: Json, ours: Json) -> None:
        for row in self.rows:
            row.read(theirs, ours)
        if theirs.get(DEEPER):
            scale = get(ours, BLOCK + "mixer.scale") or head_size(ours) ** -0.5
            block, depth = ours["layers"].pop("block"), ours["depth"]
            if not isinstance(depth, int):
                raise UsageError(f"config.json: n_layer must be a whole number, not {depth!r}")
            for layer in range(depth):
                mixer = block["mixer"] | {"scale": scale / (layer + 1)}
                ours["layers"][f"layer_{layer}"] = block | {"mixer": mixer}
            ours["pattern"] = tuple(f"layer_{layer}" for layer in range(depth))

    def write(self, ours: Json, theirs: Json) -> None:
        deeper = "layer_0" in ours["layers"]
        template = ours["layers"]["layer_0" if deeper else "block"]
        for row in self.rows:
            row.write(ours | {"layers": {"block": template}}, theirs)
        theirs[DEEPER] = deeper


GPT2 = FAMILIES.register("gpt2", paper="Radford et al. 2019, Language Models are Unsupervised Multitask Learners")(
    Family(
        model_type="gpt2",
        architecture="GPT2LMHeadModel",
        skeleton=GPT | {"embed": {"position": {"kind": "learned"}}},
        config=(
            ByLayer(
                (
                    Either(("vocab_size",), ("vocab",)),
                    Either(("n_embd",), ("dim",)),
                    Either(("n_layer",), ("depth",)),
                    Either(("n_head",), (BLOCK + "mixer.heads",)),
                    Either(("n_positions",), ("context", "embed.position.length"), 1024),
                    InnerRow("n_inner"),
                    ActivationRow("activation_function", "gelu_new"),
                    Key("layer_norm_epsilon", EPS, 1e-5),
                    Key("tie_word_embeddings", ("embeddings",), **(flag("tied", "untied") | {"default": True})),
                    Key(
                        "scale_attn_weights",
                        (BLOCK + "mixer.scale",),
                        True,
                        read_as=lambda scaled: None if scaled else 1.0,
                        write_as=lambda scale: scale != 1.0,
                    ),
                    Always("add_cross_attention", False),
                )
            ),
        ),
        weights=(
            Rule("transformer.wte.weight", "embed.weight"),
            Rule("transformer.wpe.weight", "embed.position.weight"),
            *layers("transformer.ln_f", "norm", [("", "")]),
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
            Rule(T + "attn.masked_bias", op=DROP),
        ),
        base="transformer.",
    )
)
