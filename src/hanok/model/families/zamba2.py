"""Zamba2: Mamba-2 layers, beside some of which stands a transformer block that they share, adapted for each use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.families import FAMILIES
from hanok.model.families.decoder import GatedRow
from hanok.model.families.pattern import DEEPEST, shortest
from hanok.model.families.rows import RopeRow, flag
from hanok.model.families.rule import DROP, ROWS, TIED, Rule
from hanok.model.families.state_rows import state_rules
from hanok.model.families.table import REQUIRED, Always, Family, Json, Key

KINDS = {"mamba": "mamba", "linear_attention": "mamba", "hybrid": "hybrid"}  # the first word is older files'
# What an absent list means: the layers of the 2.7B model.
DEFAULT = "mamba " + ("mamba " * 5 + "hybrid ") * 7 + "mamba " * 4 + "hybrid " + "mamba " * 3 + "hybrid mamba mamba"
WHOLE = {  # whole numbers, and what an absent one means
    "hidden_size": 2560,
    "num_attention_heads": 32,
    "num_mem_blocks": 1,
    "adapter_rank": 128,
    "mamba_d_state": 64,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_ngroups": 1,
    "n_mamba_heads": 8,
}
GATE_UP, QKV = ("ffn.gate", "ffn.up"), (("mixer.q",), ("mixer.k",), ("mixer.v",))  # what has an adapter each


@dataclass(frozen=True)
class LayersRow:
    """Layers with and without a shared block beside them, and the blocks, which take turns."""

    def read(self, theirs: Json, ours: Json) -> None:
        known = {key: theirs.get(key, default) for key, default in WHOLE.items()}
        for key, value in known.items():
            if type(value) is not int or value < 1:
                raise UsageError(f"config.json: {key} must be a whole number above 0, not {value!r}")
        kinds = _kinds(theirs, ours)
        norm = {"kind": "rmsnorm", "eps": theirs.get("rms_norm_eps", 1e-5)}
        layer = {"mixer": _mamba(theirs, known), "ffn": None, "norm": norm}
        parts = kinds.count("hybrid")
        if theirs.get("tie_word_embeddings", True):  # transformers 5 ties blocks only where it ties the head
            parts = min(known["num_mem_blocks"], parts)
        names, uses = [], 0
        for kind in kinds:
            names.append(kind + (f"{uses % parts}" if kind == "hybrid" and parts > 1 else ""))
            uses += kind == "hybrid"
        ours["pattern"] = shortest(names)
        ours["layers"] = {"mamba": layer} if "mamba" in kinds else {}
        ours["layers"] |= {
            name: layer | {"beside": "block" + (name.removeprefix("hybrid") or "0")}
            for name in sorted(set(names) - {"mamba"})
        }
        ours["shared"] = {f"block{at}": _shared(theirs, known, norm) for at in range(parts)}
        ours["norm"] = norm

    def write(self, ours: Json, theirs: Json) -> None:
        layers = [ours["layers"][ours["pattern"][at % len(ours["pattern"])]] for at in range(ours["depth"])]
        mamba, dim = layers[0]["mixer"], ours["dim"]
        theirs["layers_block_type"] = ["hybrid" if layer["beside"] else "linear_attention" for layer in layers]
        theirs["rms_norm_eps"] = ours["norm"]["eps"]
        theirs["mamba_d_state"], theirs["mamba_d_conv"] = mamba["state"], mamba["conv"]
        theirs |= {
            "mamba_expand": mamba["width"] // dim,
            "mamba_ngroups": mamba["groups"],
            "n_mamba_heads": mamba["width"] // mamba["head_dim"],
        }
        theirs["time_step_min"], theirs["time_step_max"] = mamba["step"]
        theirs["add_bias_linear"] = mamba["bias"] == "all"
        theirs["num_mem_blocks"] = max(1, len(ours["shared"]))
        for part in ours["shared"].values():  # all alike: the config is read again to see
            mixer, position = part["mixer"], part["mixer"]["position"]
            theirs["num_attention_heads"], theirs["num_key_value_heads"] = mixer["heads"], mixer["kv_heads"]
            theirs["intermediate_size"] = part["ffn"]["hidden"]
            theirs["use_mem_rope"] = position["kind"] == "rope"
            theirs["use_shared_attention_adapter"] = len(part["adapters"]) > 1
            theirs["adapter_rank"] = part["adapters"][0]["rank"]
            GatedRow(ours="ffn").write(part, theirs)
            if theirs["use_mem_rope"]:
                RopeRow("position").write(mixer, theirs)


def _kinds(theirs: Json, ours: Json) -> list[str]:
    """Return the kind of every layer."""
    told: Any = theirs.get("layers_block_type", theirs.get("layer_types"))
    told = DEFAULT.split() if told is None else told
    depth = ours.get("depth")
    if not isinstance(told, list) or not 0 < len(told) <= DEEPEST or any(str(kind) not in KINDS for kind in told):
        raise UsageError(f"config.json: layers_block_type must name the kind of each layer: {', '.join(KINDS)}")
    if len(told) != depth:
        raise UsageError(f"config.json: num_hidden_layers is {depth!r}, layers_block_type has {len(told)} entries")
    return [KINDS[kind] for kind in told]


def _mamba(theirs: Json, known: dict[str, int]) -> Json:
    width, heads, low = known["mamba_expand"] * known["hidden_size"], known["n_mamba_heads"], _step(theirs)[0]
    if width % heads:
        raise UsageError(f"config.json: an inner width of {width} cannot be divided among {heads} n_mamba_heads")
    return {
        "kind": "mamba2",
        "width": width,
        "head_dim": width // heads,
        "groups": known["mamba_ngroups"],
        "state": known["mamba_d_state"],
        "conv": known["mamba_d_conv"],
        "bias": "all" if theirs.get("add_bias_linear") else "conv",  # use_conv_bias is not looked at
        "limit": [low, None],
        "step": _step(theirs),
    }


def _step(theirs: Json) -> list[float]:
    return [theirs.get("time_step_min", 0.001), theirs.get("time_step_max", 0.1)]


def _shared(theirs: Json, known: dict[str, int], norm: Json) -> Json:
    """Return a block: attention over [stream, embeddings], twice as wide as the model, and a gated network."""
    dim, heads = known["hidden_size"], known["num_attention_heads"]
    size = 2 * dim // heads
    if size < 1:
        raise UsageError(f"config.json: a width of {2 * dim} cannot be divided among {heads} num_attention_heads")
    mixer = {
        "kind": "gqa",
        "heads": heads,
        "kv_heads": theirs.get("num_key_value_heads") or heads,
        "head_dim": size,
        "scale": (size / 2) ** -0.5,
        "position": {"kind": "none"},
        "out": dim,
    }
    if theirs.get("use_mem_rope"):
        mixer["position"] = {"kind": "rope"}
        RopeRow("position").read(theirs, mixer)
    bias = "all" if theirs.get("add_bias_linear") else "none"
    part = {"mixer": mixer, "ffn": {"hidden": theirs.get("intermediate_size") or 4 * dim, "bias": bias}, "norm": norm}
    GatedRow(ours="ffn", default="gelu").read(theirs, part)
    adapted = [GATE_UP, *(QKV if theirs.get("use_shared_attention_adapter") else ())]
    return part | {"adapters": [{"of": of, "rank": known["adapter_rank"]} for of in adapted]}


@dataclass(frozen=True)
class ContextRow:
    """The context, which `use_long_context` sets."""

    def read(self, theirs: Json, ours: Json) -> None:
        ours["context"] = 16384 if theirs.get("use_long_context") else theirs.get("max_position_embeddings", 4096)

    def write(self, ours: Json, theirs: Json) -> None:
        theirs["max_position_embeddings"] = ours["context"]


Over = Callable[[ModelConfig], Iterable[dict[str, int | str]]]


def _plain(config: ModelConfig) -> Iterable[dict[str, int | str]]:
    return [{"l": layer} for layer in range(config.depth) if layer not in config.uses]


def _hybrid(config: ModelConfig) -> Iterable[dict[str, int | str]]:
    """Return each use: its layer {l}, its number {i} among all uses, its {part}, and the {first} layer of that."""
    first: dict[str, int] = {}
    return [
        {"l": layer, "i": at, "part": part, "first": first.setdefault(part, layer)}
        for at, (layer, part) in enumerate(config.uses.items())
    ]


def _firsts(config: ModelConfig) -> Iterable[dict[str, int | str]]:
    return [use for use in _hybrid(config) if use["l"] == use["first"]]


def _later(config: ModelConfig) -> Iterable[dict[str, int | str]]:
    return [use for use in _hybrid(config) if use["l"] != use["first"]]


def _spare(config: ModelConfig) -> Iterable[dict[str, int | str]]:
    """Return every adapter {i} of another use than that of its layer {l}."""
    uses = list(_hybrid(config))
    return [use | {"i": other["i"]} for use in uses for other in uses if other is not use]


def _over(layers: Over, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    return tuple(replace(rule, over=layers) for rule in rules)


def _mamba_rules(theirs: str) -> tuple[Rule, ...]:
    return (
        Rule(theirs + "input_layernorm.weight", "blocks.{l}.mixer_norm.weight"),
        *state_rules(theirs + "mamba.", "blocks.{l}.mixer."),
        Rule(theirs + "mamba.dt_bias", "blocks.{l}.mixer.dt_bias"),
        Rule(theirs + "mamba.norm.weight", "blocks.{l}.mixer.norm_weight"),
    )


T = "model.layers.{l}."
PART, OURS, USE = T + "shared_transformer.", "shared.{part}.", "shared.{part}.uses.{l}."
PARTS = (
    *(Rule(f"{PART}self_attn.{a}_proj.weight", f"{OURS}mixer.{a}.weight") for a in "qkvo"),
    Rule(PART + "input_layernorm.weight", OURS + "mixer_norm.weight"),
    Rule(PART + "pre_ff_layernorm.weight", OURS + "ffn_norm.weight"),
    *(
        rule
        for p in ("weight", "bias")
        for rule in (
            Rule(f"{PART}feed_forward.gate_up_proj.{p}", (f"{OURS}ffn.gate.{p}", f"{OURS}ffn.up.{p}"), ROWS),
            Rule(f"{PART}feed_forward.down_proj.{p}", f"{OURS}ffn.down.{p}"),
        )
    ),
)
A, B = "{i}.0.weight", "{i}.1.weight"
ADAPTERS = (
    Rule(PART + "feed_forward.gate_up_proj_adapter_list." + A, USE + "adapters.gate_up.A.weight"),
    Rule(
        PART + "feed_forward.gate_up_proj_adapter_list." + B,
        (USE + "adapters.gate_up.B.gate.weight", USE + "adapters.gate_up.B.up.weight"),
        ROWS,
    ),
    *(Rule(f"{PART}self_attn.linear_{a}_adapter_list.{A}", f"{USE}adapters.{a}.A.weight") for a in "qkv"),
    *(Rule(f"{PART}self_attn.linear_{a}_adapter_list.{B}", f"{USE}adapters.{a}.B.{a}.weight") for a in "qkv"),
)


def _at_first(rule: Rule) -> Rule:
    """Return the rule with its tensor at the first layer that uses the part."""
    return replace(rule, theirs=rule.theirs.replace("{l}", "{first}"))


ZAMBA2 = FAMILIES.register("zamba2", paper="Glorioso et al. 2024, arXiv 2411.15242")(
    Family(
        model_type="zamba2",
        architecture="Zamba2ForCausalLM",
        skeleton={},
        config=(
            Key("vocab_size", ("vocab",), REQUIRED),
            Key("hidden_size", ("dim",), REQUIRED),
            Key("num_hidden_layers", ("depth",), REQUIRED),
            Key("tie_word_embeddings", ("embeddings",), **(flag("tied", "untied") | {"default": True})),
            ContextRow(),
            LayersRow(),
            Always("attention_dropout", 0.0, also=(0, None)),
        ),
        weights=(
            Rule("model.embed_tokens.weight", "embed.weight"),
            Rule("model.final_layernorm.weight", "norm.weight"),
            Rule("lm_head.weight", "head.weight", TIED),
            *_over(_plain, _mamba_rules(T)),
            *_over(_hybrid, _mamba_rules(T + "mamba_decoder.")),
            *_over(_hybrid, (Rule(T + "linear.weight", USE + "out.weight"),)),
            *_over(_firsts, PARTS),
            *_over(_hybrid, [_at_first(rule) for rule in ADAPTERS]),
            # Files may repeat what is shared at later layers, and hold adapters of uses that a block does not have.
            *_over(_later, [Rule(rule.theirs, op=DROP) for rule in PARTS]),
            *_over(_hybrid, [Rule(rule.theirs, op=DROP) for rule in ADAPTERS]),
            *_over(_spare, [Rule(rule.theirs, op=DROP) for rule in ADAPTERS]),
        ),
        base="model.",
    )
)
