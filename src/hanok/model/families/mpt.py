"""MPT: ALiBi positions, no biases, not even in the norms."""

from __future__ import annotations

from dataclasses import dataclass

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.gpt import EPS, GPT, Either, merged
from hanok.model.families.rows import BLOCK, flag
from hanok.model.families.rule import ROWS, TIED, Rule
from hanok.model.families.table import Always, Family, Json, Key, get, put

T, O = "transformer.blocks.{l}.", "blocks.{l}."
MIXER = BLOCK + "mixer"
# The code of the family computes these as they are here, whatever they say; another value is refused.
COMPUTED = {
    "attn_type": "multihead_attention",
    "clip_qkv": None,
    "prefix_lm": False,
    "qk_ln": False,
    "alibi": True,
    "alibi_bias_max": 8,
}


@dataclass(frozen=True)
class AttentionRow:
    """The keys of `attn_config`."""

    def read(self, theirs: Json, ours: Json) -> None:
        attention = theirs.get("attn_config") or {}
        if not isinstance(attention, dict):
            raise UsageError(f"config.json: attn_config must be a mapping, not {attention!r}")
        for key, value in COMPUTED.items():
            if attention.get(key, value) != value:
                raise UsageError(
                    f"config.json: attn_config.{key} = {attention[key]!r} is not supported, only {value!r}"
                )
        put(ours, MIXER + ".scale", attention.get("softmax_scale"))

    def write(self, ours: Json, theirs: Json) -> None:
        scale, usual = get(ours, MIXER + ".scale"), (ours["dim"] // get(ours, MIXER + ".heads")) ** -0.5
        theirs["attn_config"] = COMPUTED | {"softmax_scale": None if scale == usual else scale}


MPT = FAMILIES.register("mpt", paper="MosaicML 2023, Introducing MPT-7B")(
    Family(
        model_type="mpt",
        architecture="MptForCausalLM",
        skeleton=merged(
            GPT,
            {
                "layers": {
                    "block": {
                        "mixer": {"position": {"kind": "alibi"}, "bias": "none"},
                        "ffn": {"activation": "gelu", "bias": "none"},
                        "norm": {"bias": "none"},
                    }
                },
                "norm": {"bias": "none"},
            },
        ),
        config=(
            Either(("vocab_size",), ("vocab",)),
            Either(("d_model",), ("dim",)),
            Either(("n_layers",), ("depth",)),
            Either(("n_heads",), (MIXER + ".heads",)),
            Either(("max_seq_len",), ("context",), 2048),
            Key("layer_norm_epsilon", EPS, 1e-5),
            Key("tie_word_embeddings", ("embeddings",), **(flag("tied", "untied") | {"default": True})),
            AttentionRow(),
            Always("expansion_ratio", 4),
            Always("logit_scale", None),
            Always("no_bias", True),
        ),
        weights=(
            Rule("transformer.wte.weight", "embed.weight"),
            Rule("transformer.norm_f.weight", "norm.weight"),
            Rule("lm_head.weight", "head.weight", TIED),
            Rule(T + "norm_1.weight", O + "mixer_norm.weight"),
            Rule(T + "norm_2.weight", O + "ffn_norm.weight"),
            Rule(T + "attn.Wqkv.weight", tuple(f"{O}mixer.{a}.weight" for a in "qkv"), ROWS),
            Rule(T + "attn.out_proj.weight", O + "mixer.o.weight"),
            Rule(T + "ffn.up_proj.weight", O + "ffn.up.weight"),
            Rule(T + "ffn.down_proj.weight", O + "ffn.down.weight"),
        ),
        base="transformer.",
    )
)
