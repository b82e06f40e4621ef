"""OPT: learned positions that start two rows late; the 350M has norms after the branches and a narrow embedding."""

from __future__ import annotations

from dataclasses import dataclass

from hanok.model.families import FAMILIES
from hanok.model.families.gpt import GPT, ActivationRow, Either, merged
from hanok.model.families.rows import BLOCK, flag
from hanok.model.families.rule import TIED, Rule, layers
from hanok.model.families.table import REQUIRED, Family, Json, Key, get, put

T, O = "model.decoder.layers.{l}.", "blocks.{l}."
EPS = 1e-5  # of torch's LayerNorm: no key says it


@dataclass(frozen=True)
class NormRow:
    """Where norms are, whether they learn anything, and whether one ends the stack."""

    def read(self, theirs: Json, ours: Json) -> None:
        before = theirs.get("do_layer_norm_before", True)
        learned = "all" if theirs.get("layer_norm_elementwise_affine", True) else "none"
        norm = {"kind": "layernorm", "eps": EPS, "weight": learned, "bias": learned}
        put(ours, BLOCK + "wiring", "pre" if before else "post")
        put(ours, BLOCK + "norm", norm)
        put(ours, "norm", norm if before and not theirs.get("_remove_final_layer_norm") else None)

    def write(self, ours: Json, theirs: Json) -> None:
        before = get(ours, BLOCK + "wiring") == "pre"
        theirs["do_layer_norm_before"] = before
        theirs["layer_norm_elementwise_affine"] = get(ours, BLOCK + "norm.weight") == "all"
        if before:
            theirs["_remove_final_layer_norm"] = ours["norm"] is None


@dataclass(frozen=True)
class WidthRow:
    """A table narrower than the model is projected up behind the embedding and down before the head."""

    def read(self, theirs: Json, ours: Json) -> None:
        width = theirs.get("word_embed_proj_dim") or theirs["hidden_size"]
        if width != theirs["hidden_size"]:
            put(ours, "embed.width", width)
            put(ours, "head.transform", {"width": width, "bias": "none"})

    def write(self, ours: Json, theirs: Json) -> None:
        theirs["word_embed_proj_dim"] = get(ours, "embed.width") or ours["dim"]


OPT = FAMILIES.register("opt", paper="Zhang et al. 2022, arXiv 2205.01068")(
    Family(
        model_type="opt",
        architecture="OPTForCausalLM",
        skeleton=merged(GPT, {"embed": {"position": {"kind": "learned", "offset": 2}}}),
        config=(
            Either(("vocab_size",), ("vocab",)),
            Either(("hidden_size",), ("dim",)),
            Either(("num_hidden_layers",), ("depth",)),
            Either(("num_attention_heads",), (BLOCK + "mixer.heads",)),
            Either(("max_position_embeddings",), ("context", "embed.position.length"), 2048),
            Key("ffn_dim", (BLOCK + "ffn.hidden",), REQUIRED),
            ActivationRow("activation_function", "relu"),
            Key(
                "enable_bias",
                (BLOCK + "mixer.bias", BLOCK + "ffn.bias"),
                **(flag("all", "none") | {"default": True}),
            ),
            Key("tie_word_embeddings", ("embeddings",), **(flag("tied", "untied") | {"default": True})),
            NormRow(),
            WidthRow(),
        ),
        weights=(
            Rule("model.decoder.embed_tokens.weight", "embed.weight"),
            Rule("model.decoder.embed_positions.weight", "embed.position.weight"),
            Rule("model.decoder.project_in.weight", "embed.up.weight"),
            Rule("model.decoder.project_out.weight", "transform.dense.weight"),
            *layers("model.decoder.final_layer_norm", "norm", [("", "")]),
            Rule("lm_head.weight", "head.weight", TIED),
            *layers(T + "self_attn.", O + "mixer.", [(f"{a}_proj", a) for a in "qkv"]),
            *layers(
                T,
                O,
                [
                    ("self_attn.out_proj", "mixer.o"),
                    ("fc1", "ffn.up"),
                    ("fc2", "ffn.down"),
                    ("self_attn_layer_norm", "mixer_norm"),
                    ("final_layer_norm", "ffn_norm"),
                ],
            ),
        ),
        base="model.",
    )
)
