"""What decoders in LLaMA's layout share: rows of their configs and rules of their weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hanok.core.errors import UsageError
from hanok.model.families.rows import BLOCK, HeadsRow, flag
from hanok.model.families.rule import DROP, TIED, Rule, layers
from hanok.model.families.table import REQUIRED, Json, Key, Row, get, put

T, O = "model.layers.{l}.", "blocks.{l}."


@dataclass(frozen=True)
class Only:
    """A key of which we compute one value alone; it is kept as it was, and not written where there was none."""

    theirs: str
    values: tuple[Any, ...]

    def read(self, theirs: Json, ours: Json) -> None:
        found = theirs.get(self.theirs, self.values[0])
        if found not in self.values:
            raise UsageError(f"config.json: {self.theirs} = {found!r} is not supported, only {self.values[0]!r}")

    def write(self, ours: Json, theirs: Json) -> None:
        pass


@dataclass(frozen=True)
class Absent:
    """A row in a family where absent keys mean something else than the row supposes."""

    defaults: Mapping[str, Any]
    row: Row

    def read(self, theirs: Json, ours: Json) -> None:
        self.row.read({**self.defaults, **theirs}, ours)

    def write(self, ours: Json, theirs: Json) -> None:
        self.row.write(ours, theirs)


@dataclass(frozen=True)
class Heads:
    """Heads as `HeadsRow` has them, with what absent keys mean."""

    kv_heads: int | None = None
    head_dim: int | None = None

    def read(self, theirs: Json, ours: Json) -> None:
        HeadsRow().read({"num_key_value_heads": self.kv_heads, "head_dim": self.head_dim, **theirs}, ours)

    def write(self, ours: Json, theirs: Json) -> None:
        HeadsRow().write(ours, theirs)


GATED = {
    "silu": {"kind": "swiglu"},
    "gelu": {"kind": "geglu", "activation": "gelu"},
    "gelu_pytorch_tanh": {"kind": "geglu", "activation": "gelu_tanh"},
    "relu": {"kind": "reglu"},
}


@dataclass(frozen=True)
class GatedRow:
    """The activation of a gated feed-forward network, whose word with us is its kind's."""

    theirs: str = "hidden_act"
    ours: str = BLOCK + "ffn"
    default: str = "silu"

    def read(self, theirs: Json, ours: Json) -> None:
        word = theirs.get(self.theirs, self.default)
        if not isinstance(word, str) or word not in GATED:
            raise UsageError(f"config.json: {self.theirs} = {word!r} is not supported, only {', '.join(GATED)}")
        for key, value in GATED[word].items():
            put(ours, f"{self.ours}.{key}", value)

    def write(self, ours: Json, theirs: Json) -> None:
        ffn = get(ours, self.ours)
        found = {key: ffn[key] for key in ("kind", "activation") if key in ffn}
        theirs[self.theirs] = {str(words): name for name, words in GATED.items()}[str(found)]


@dataclass(frozen=True)
class RootRow:
    """Embeddings multiplied by the root of the width, for which there is no key."""

    def read(self, theirs: Json, ours: Json) -> None:
        dim = theirs.get("hidden_size")
        if not isinstance(dim, int) or dim < 1:
            raise UsageError(f"config.json: hidden_size must be a whole number above 0, not {dim!r}")
        put(ours, "embed.scale", dim**0.5)

    def write(self, ours: Json, theirs: Json) -> None:
        pass


@dataclass(frozen=True)
class InverseRootRow:
    """The number whose inverse root scales scores."""

    theirs: str
    ours: str
    default: int

    def read(self, theirs: Json, ours: Json) -> None:
        number = theirs.get(self.theirs, self.default)
        if not isinstance(number, int | float) or number <= 0:
            raise UsageError(f"config.json: {self.theirs} must be a number above 0, not {number!r}")
        put(ours, self.ours, number**-0.5)

    def write(self, ours: Json, theirs: Json) -> None:
        theirs[self.theirs] = round(get(ours, self.ours) ** -2)


@dataclass(frozen=True)
class InverseRow:
    """A number by which they divide, and with whose inverse we multiply."""

    theirs: str
    ours: str
    default: float = 1.0

    def read(self, theirs: Json, ours: Json) -> None:
        number = theirs.get(self.theirs, self.default)
        if not isinstance(number, int | float) or number <= 0:
            raise UsageError(f"config.json: {self.theirs} must be a number above 0, not {number!r}")
        put(ours, self.ours, 1 / number)

    def write(self, ours: Json, theirs: Json) -> None:
        inverse = 1 / get(ours, self.ours)
        theirs[self.theirs] = next((n for n in (inverse, round(inverse, 9)) if 1 / n == get(ours, self.ours)), inverse)


def sizes(*, context: int, embeddings: Literal["tied", "untied"] = "untied") -> tuple[Row, ...]:
    """Return the rows of vocabulary, width, depth and context, with what absent keys mean."""
    tie = flag("tied", "untied") | {"default": embeddings == "tied"}
    return (
        Key("vocab_size", ("vocab",), REQUIRED),
        Key("hidden_size", ("dim",), REQUIRED),
        Key("num_hidden_layers", ("depth",), REQUIRED),
        Key("max_position_embeddings", ("context",), context),
        Key("tie_word_embeddings", ("embeddings",), **tie),
        Only("attention_dropout", (0.0, 0, None)),
    )


def eps(default: float, *more: str) -> Row:
    """Return the row of the norms' epsilon, which `more` paths share."""
    return Key("rms_norm_eps", (BLOCK + "norm.eps", "norm.eps", *more), default)


def skeleton(*, mixer: Json | None = None, block: Json | None = None, norm: Json | None = None, **model: Any) -> Json:
    """Return a decoder of one template: attention with rotary positions, a gated network and RMSNorm, and changes."""
    parts = {
        "mixer": {"kind": "gqa", "position": {"kind": "rope"}, **(mixer or {})},
        "ffn": {"kind": "swiglu"},
        "norm": {"kind": "rmsnorm", **(norm or {})},
    }
    return {"layers": {"block": {**parts, **(block or {})}}, "norm": parts["norm"], **model}


def matrices(theirs: str, ours: str, names: Iterable[tuple[str, str]]) -> tuple[Rule, ...]:
    """Return one rule per pair of names under a common prefix, for weights without biases."""
    return tuple(Rule(f"{theirs}{a}.weight", f"{ours}{b}.weight") for a, b in names)


HIDDEN = Key("intermediate_size", (BLOCK + "ffn.hidden",), REQUIRED)
ATTENTION_BIAS = Key("attention_bias", (BLOCK + "mixer.bias",), **flag("all", "none"))
QKVO = [(f"{name}_proj", name) for name in "qkvo"]
GATE_UP_DOWN = [(f"{name}_proj", name) for name in ("gate", "up", "down")]

EMBEDDINGS = (
    Rule("model.embed_tokens.weight", "embed.weight"),
    Rule("lm_head.weight", "head.weight", TIED),
    Rule(T + "self_attn.rotary_emb.inv_freq", op=DROP),
)
ENDS = (*EMBEDDINGS, Rule("model.norm.weight", "norm.weight"))
PRE_NORMS = (
    Rule(T + "input_layernorm.weight", O + "mixer_norm.weight"),
    Rule(T + "post_attention_layernorm.weight", O + "ffn_norm.weight"),
)
PLAIN_ATTENTION = matrices(T + "self_attn.", O + "mixer.", QKVO)
BIASED_ATTENTION = layers(T + "self_attn.", O + "mixer.", QKVO)
QK_NORMS = matrices(T + "self_attn.", O + "mixer.", [("q_norm", "q_norm"), ("k_norm", "k_norm")])
MLP = matrices(T + "mlp.", O + "ffn.", GATE_UP_DOWN)
