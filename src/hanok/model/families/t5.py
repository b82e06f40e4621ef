"""T5 and its 1.1: an encoder and a decoder with shared relative position biases, and scores that are not scaled."""

from __future__ import annotations

from dataclasses import dataclass

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.rule import DROP, TIED, Rule
from hanok.model.families.table import Always, Family, Json, Row, get, put

# Their word for the feed-forward network, and ours.
FFNS: dict[str, Json] = {
    "relu": {"kind": "mlp", "activation": "relu"},
    "gelu": {"kind": "mlp", "activation": "gelu"},
    "gelu_new": {"kind": "mlp", "activation": "gelu_tanh"},
    "silu": {"kind": "mlp", "activation": "silu"},
    "gated-gelu": {"kind": "geglu", "activation": "gelu_tanh"},
    "gated-silu": {"kind": "swiglu"},
    "gated-relu": {"kind": "reglu"},
}
GATED = ("layers.block.ffn.kind", "geglu", "swiglu", "reglu")


@dataclass(frozen=True)
class StacksRow:
    """Both stacks: attention with relative positions, cross-attention in the decoder, and a feed-forward network."""

    ffn: str = "feed_forward_proj"

    def read(self, theirs: Json, ours: Json) -> None:
        for key in ("d_model", "d_kv", "d_ff", "num_layers", "num_heads", "vocab_size"):
            if not isinstance(theirs.get(key), int):
                raise UsageError(f"config.json needs a whole number {key!r}")
        norm = {"kind": "rmsnorm", "eps": theirs.get("layer_norm_epsilon", 1e-6)}
        ours |= {"vocab": theirs["vocab_size"], "dim": theirs["d_model"], "norm": norm}
        ours |= {"context": theirs.get("n_positions", 512)}
        depth = theirs.get("num_decoder_layers")
        ours["depth"] = theirs["num_layers"] if depth is None else depth
        ours["layers"] = {"block": self._block(theirs, norm, "past")}
        layers = {"block": self._block(theirs, norm, "all")}
        ours["encoder"] = {"depth": theirs["num_layers"], "layers": layers, "norm": norm}

    def _block(self, theirs: Json, norm: Json, see: str) -> Json:
        heads = {"heads": theirs["num_heads"], "head_dim": theirs["d_kv"], "scale": 1.0}
        buckets = theirs.get("relative_attention_num_buckets", 32)
        reach = theirs.get("relative_attention_max_distance", 128)
        position = {"kind": "t5", "buckets": buckets, "reach": reach, "see": see}
        word = theirs.get(self.ffn, "relu")
        if word not in FFNS:
            raise UsageError(f"config.json: {self.ffn} = {word!r} is not supported (known: {', '.join(FFNS)})")
        ffn = FFNS[word] | {"hidden": theirs["d_ff"]}
        block: Json = {"mixer": {"kind": "gqa", **heads, "position": position, "see": see}, "ffn": ffn, "norm": norm}
        return block if see == "all" else block | {"cross": {"kind": "attention", **heads}}

    def write(self, ours: Json, theirs: Json) -> None:
        block = get(ours, "layers.block")
        mixer, ffn = block["mixer"], block["ffn"]
        if ffn is None:
            raise KeyError("ffn")
        words = [w for w, spec in FFNS.items() if spec.items() <= ffn.items()]
        theirs |= {"vocab_size": ours["vocab"], "d_model": ours["dim"], "d_kv": mixer["head_dim"]}
        theirs |= {"num_heads": mixer["heads"], "d_ff": ffn["hidden"], "num_layers": get(ours, "encoder.depth")}
        theirs |= {"num_decoder_layers": ours["depth"], "layer_norm_epsilon": get(ours, "norm.eps")}
        theirs["relative_attention_num_buckets"] = mixer["position"]["buckets"]
        theirs["relative_attention_max_distance"] = mixer["position"]["reach"]
        theirs |= {self.ffn: words[0] if words else None, "n_positions": ours["context"]}


@dataclass(frozen=True)
class HeadRow:
    """Tied embeddings, and the 1 / sqrt(d) by which the first T5 scales its logits; 1.1 does neither."""

    def read(self, theirs: Json, ours: Json) -> None:
        tied = theirs.get("tie_word_embeddings") is not False
        put(ours, "embeddings", "tied" if tied else "untied")
        put(ours, "head.scale", ours["dim"] ** -0.5 if theirs.get("scale_decoder_outputs", tied) else 1.0)

    def write(self, ours: Json, theirs: Json) -> None:
        tied = ours["embeddings"] == "tied"
        theirs |= {"tie_word_embeddings": tied, "scale_decoder_outputs": get(ours, "head.scale") != 1.0}


def encoder_decoder_rows(ffn: str) -> tuple[Row, ...]:
    """Return the config rows of T5 and its kin."""
    return (StacksRow(ffn), HeadRow(), Always("is_encoder_decoder", True))


def stack_rules(theirs: str, ours: str, ffn_at: int) -> tuple[Rule, ...]:
    """Return the rules of one stack, whose feed-forward network is the sub-layer `ffn_at`."""
    t, o = theirs + "block.{l}.layer.", ours + "blocks.{l}."
    dense = f"{t}{ffn_at}.DenseReluDense."
    bias = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return (
        *(Rule(f"{t}0.SelfAttention.{a}.weight", f"{o}mixer.{a}.weight") for a in "qkvo"),
        Rule(t + "0.layer_norm.weight", o + "mixer_norm.weight"),
        Rule(theirs + bias, ours + "blocks.0.mixer.position.weight"),
        Rule(dense + "wi_0.weight", o + "ffn.gate.weight"),
        Rule(dense + "wi_1.weight", o + "ffn.up.weight", when=GATED),
        Rule(dense + "wi.weight", o + "ffn.up.weight"),
        Rule(dense + "wo.weight", o + "ffn.down.weight"),
        Rule(f"{t}{ffn_at}.layer_norm.weight", o + "ffn_norm.weight"),
        Rule(theirs + "final_layer_norm.weight", ours + "norm.weight"),
    )


def shared_rules() -> tuple[Rule, ...]:
    """Return the rules of the embeddings, the head, and the decoder's look at the encoder."""
    t, o = "decoder.block.{l}.layer.1.", "blocks.{l}."
    return (
        Rule("shared.weight", "embed.weight"),
        Rule("encoder.embed_tokens.weight", op=DROP),
        Rule("decoder.embed_tokens.weight", op=DROP),
        Rule("lm_head.weight", "head.weight", TIED),
        *(Rule(f"{t}EncDecAttention.{a}.weight", f"{o}cross.{a}.weight") for a in "qkvo"),
        Rule(t + "layer_norm.weight", o + "cross_norm.weight"),
        Rule("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", op=DROP),
    )


T5 = FAMILIES.register("t5", paper="Raffel et al. 2019, arXiv 1910.10683; Shazeer 2020 (1.1), arXiv 2002.05202")(
    Family(
        model_type="t5",
        architecture="T5ForConditionalGeneration",
        skeleton={},
        config=encoder_decoder_rows("feed_forward_proj"),
        weights=(*shared_rules(), *stack_rules("encoder.", "encoder.", 1), *stack_rules("decoder.", "", 2)),
    )
)
