"""BERT and the sentence encoders made of it: layers that see both ways, norms behind them, and a head that fills gaps.

BertForMaskedLM has that head, BertModel a pooler in its place. BertForPreTraining is read as BertForMaskedLM: its
pooler and its next-sentence classifier are left out. A BertModel without pooler says `add_pooling_layer: false`.
"""

from __future__ import annotations

from dataclasses import dataclass

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.decoder import Only
from hanok.model.families.gpt import ActivationRow
from hanok.model.families.rows import BLOCK, flag
from hanok.model.families.rule import DROP, TIED, Rule, layers
from hanok.model.families.table import REQUIRED, Family, Json, Key, get, put

T, O = "bert.encoder.layer.{l}.", "blocks.{l}."
MASKED, BARE = "BertForMaskedLM", "BertModel"
SKELETON: Json = {
    "embed": {"position": {"kind": "learned"}, "norm": {"kind": "layernorm"}},
    "layers": {
        "block": {
            "mixer": {"kind": "gqa", "position": {"kind": "none"}, "bias": "all", "see": "all"},
            "ffn": {"kind": "mlp", "bias": "all"},
            "norm": {"kind": "layernorm"},
            "wiring": "post",
        }
    },
    "norm": None,
}


@dataclass(frozen=True)
class HeadRow:
    """What stands on the stack: the head of masked language modelling, or a pooler, or nothing."""

    def read(self, theirs: Json, ours: Json) -> None:
        names = theirs.get("architectures") or [MASKED]
        if names[0] not in (MASKED, BARE, "BertForPreTraining"):
            raise UsageError(f"config.json: architectures = {names!r} is not supported, only {MASKED} and {BARE}")
        if names[0] == BARE:
            pools = theirs.get("add_pooling_layer", True)
            ours |= {"head": None, "pooler": "tanh" if pools else "none", "embeddings": "untied"}
            return
        block = get(ours, "layers.block")
        transform = {"activation": block["ffn"]["activation"], "norm": block["norm"]}
        ours["head"] = {"bias": "all", "transform": transform}
        Key("tie_word_embeddings", ("embeddings",), **(flag("tied", "untied") | {"default": True})).read(theirs, ours)

    def write(self, ours: Json, theirs: Json) -> None:
        if ours["head"] is None:
            theirs["architectures"] = [BARE]
            if ours["pooler"] == "none":
                theirs["add_pooling_layer"] = False
            return
        theirs |= {"architectures": [MASKED], "tie_word_embeddings": ours["embeddings"] == "tied"}


@dataclass(frozen=True)
class EpsRow:
    """One epsilon for every norm."""

    def read(self, theirs: Json, ours: Json) -> None:
        for path in (BLOCK + "norm.eps", "embed.norm.eps"):
            put(ours, path, theirs.get("layer_norm_eps", 1e-12))

    def write(self, ours: Json, theirs: Json) -> None:
        theirs["layer_norm_eps"] = get(ours, "embed.norm.eps")


def norms(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Return the rules of a norm, whose parts were gamma and beta in the first files."""
    names = (("weight", "weight"), ("bias", "bias"), ("gamma", "weight"), ("beta", "bias"))
    return tuple(Rule(f"{theirs}.{a}", f"{ours}.{b}") for a, b in names)


LINEARS = (
    *((f"attention.self.{a}", f"mixer.{a[0]}") for a in ("query", "key", "value")),
    ("attention.output.dense", "mixer.o"),
    ("intermediate.dense", "ffn.up"),
    ("output.dense", "ffn.down"),
)
HEAD = "cls.predictions."

BERT = FAMILIES.register("bert", paper="Devlin et al. 2018, arXiv 1810.04805")(
    Family(
        model_type="bert",
        architecture=MASKED,
        skeleton=SKELETON,
        config=(
            Key("vocab_size", ("vocab",), REQUIRED),
            Key("hidden_size", ("dim",), REQUIRED),
            Key("num_hidden_layers", ("depth",), REQUIRED),
            Key("num_attention_heads", (BLOCK + "mixer.heads",), REQUIRED),
            Key("intermediate_size", (BLOCK + "ffn.hidden",), REQUIRED),
            Key("max_position_embeddings", ("context", "embed.position.length"), 512),
            Key("type_vocab_size", ("embed.types",), 2),
            ActivationRow("hidden_act", "gelu"),
            EpsRow(),
            HeadRow(),
            Only("position_embedding_type", ("absolute",)),
            Only("is_decoder", (False,)),
            Only("add_cross_attention", (False,)),
        ),
        weights=(
            Rule("bert.embeddings.word_embeddings.weight", "embed.weight"),
            Rule("bert.embeddings.token_type_embeddings.weight", "embed.types.weight"),
            Rule("bert.embeddings.position_embeddings.weight", "embed.position.weight"),
            *norms("bert.embeddings.LayerNorm", "embed.norm"),
            *layers(T, O, LINEARS),
            *norms(T + "attention.output.LayerNorm", O + "mixer_norm"),
            *norms(T + "output.LayerNorm", O + "ffn_norm"),
            *layers("bert.", "", [("pooler.dense", "pooler")]),
            *layers(HEAD, "", [("transform.dense", "transform.dense")]),
            *norms(HEAD + "transform.LayerNorm", "transform.norm"),
            Rule(HEAD + "bias", "head.bias", when=("embeddings", "tied")),
            Rule(HEAD + "decoder.bias", "head.bias"),  # untied, this one is used, and the other only carried along
            Rule(HEAD + "decoder.weight", "head.weight", TIED),
            Rule(HEAD + "bias", op=DROP),
            Rule("bert.embeddings.position_ids", op=DROP),
            *(
                Rule(f"{name}.{p}", op=DROP)
                for name in ("bert.pooler.dense", "cls.seq_relationship")
                for p in ("weight", "bias")
            ),
        ),
        base="bert.",
    )
)
