"""Qwen3-Next: three layers of gated DeltaNet to one of gated attention, and many small experts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    BIASED_ATTENTION,
    ENDS,
    GATE_UP_DOWN,
    MLP,
    PRE_NORMS,
    QK_NORMS,
    GatedRow,
    O,
    T,
    eps,
    matrices,
    sizes,
    skeleton,
)
from hanok.model.families.mixture import EXPERTS, NORMALISE, ROUTER, Start, chosen, sparse
from hanok.model.families.pattern import Kinds, Layers
from hanok.model.families.rows import HeadsRow, RopeRow, flag
from hanok.model.families.rule import DROP, Rule
from hanok.model.families.table import REQUIRED, Family, Json, Key

WORDS = {"linear_attention": "linear", "full_attention": "full"}
ZERO_CENTRED = {"kind": "rmsnorm", "offset": 1.0}
ATTENTION: Json = {"kind": "gqa", "gate": "sigmoid", "qk_norm": ZERO_CENTRED, "position": {"kind": "rope"}}


@dataclass(frozen=True)
class AttentionHeads:
    """Heads, whose size is a key of its own; theirs is the whole config, ours a template."""

    def read(self, theirs: Json, ours: Json) -> None:
        known = {"num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256}
        HeadsRow("mixer").read(known | {key: value for key, value in theirs.items() if value is not None}, ours)

    def write(self, ours: Json, theirs: Json) -> None:
        HeadsRow("mixer").write(ours, theirs)


def _read(theirs: Json, depth: int) -> Sequence[str]:
    """Return the word of each layer, by a list or by how often attention comes."""
    types: Any = theirs.get("layer_types")
    if types is None:
        every = theirs.get("full_attention_interval", 4)
        if type(every) is not int or every < 1:
            raise UsageError(f"config.json: full_attention_interval must be a whole number above 0, not {every!r}")
        return ["linear" if (layer + 1) % every else "full" for layer in range(depth)]
    if not isinstance(types, list) or len(types) != depth or any(str(kind) not in WORDS for kind in types):
        raise UsageError(
            f"config.json: layer_types must say {' or '.join(map(repr, WORDS))} for each of {depth} layers"
        )
    return [WORDS[kind] for kind in types]


def _tell(block: Json) -> str:
    return {"gated_deltanet": "linear", "gqa": "full"}[block["mixer"]["kind"]]


def _write(words: Sequence[str], theirs: Json) -> None:
    names = {ours: kind for kind, ours in WORDS.items()}
    theirs["layer_types"] = [names[word] for word in words]


MIXING = Kinds(
    _read,
    _tell,
    _write,
    {
        "linear": (
            Start("mixer", {"kind": "gated_deltanet"}),
            Key("linear_num_key_heads", ("mixer.heads",), 16),
            Key("linear_num_value_heads", ("mixer.value_heads",), 32),
            Key("linear_key_head_dim", ("mixer.head_dim",), 128),
            Key("linear_value_head_dim", ("mixer.value_dim",), 128),
            Key("linear_conv_kernel_dim", ("mixer.conv",), 4),
            Key("rms_norm_eps", ("mixer.eps",), 1e-6),
        ),
        "full": (
            Start("mixer", ATTENTION),
            AttentionHeads(),
            Key("attention_bias", ("mixer.bias",), **flag("all", "none")),
            Key("rms_norm_eps", ("mixer.qk_norm.eps",), 1e-6),
            RopeRow("mixer.position", default_fraction=0.25),
        ),
    },
)


def _ahead(config: ModelConfig) -> Iterable[dict[str, int | str]]:
    """Return the experts, by number {x}, of a module that predicts further ahead."""
    found = [block.ffn.experts for block in config.layers.values() if block.ffn.kind == "moe"]
    return [{"x": expert} for expert in range(max(found, default=0))]


# The published files hold a module that predicts further ahead, of which no key says that it is there.
M = "mtp.layers.0."
AHEAD = (
    *(Rule(f"mtp.{name}.weight", op=DROP) for name in ("fc", "norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")),
    *(Rule(f"{M}{name}.weight", op=DROP) for name in ("input_layernorm", "post_attention_layernorm")),
    *(Rule(f"{M}self_attn.{name}.weight", op=DROP) for name in (*(f"{a}_proj" for a in "qkvo"), "q_norm", "k_norm")),
    *(Rule(f"{M}mlp.{name}.weight", op=DROP) for name in ("gate", "shared_expert_gate")),
    *(
        rule
        for theirs, _ in GATE_UP_DOWN
        for rule in (
            Rule(f"{M}mlp.shared_expert.{theirs}.weight", op=DROP),
            Rule(f"{M}mlp.experts.{{x}}.{theirs}.weight", op=DROP, over=_ahead),
        )
    ),
)
L, OWN = T + "linear_attn.", O + "mixer."
LINEAR = (
    *matrices(L, OWN, [("in_proj_qkvz", "qkvz"), ("in_proj_ba", "ba"), ("norm", "norm"), ("out_proj", "out")]),
    Rule(L + "conv1d.weight", OWN + "conv_weight"),
    Rule(L + "dt_bias", OWN + "dt_bias"),
    Rule(L + "A_log", OWN + "A_log"),
)


QWEN3_NEXT = FAMILIES.register("qwen3_next", paper="Qwen Team 2025, Qwen3-Next; Yang et al. 2025, arXiv 2505.09388")(
    Family(
        model_type="qwen3_next",
        architecture="Qwen3NextForCausalLM",
        skeleton=skeleton(norm={"offset": 1.0}),
        config=(
            Layers(
                rows=(*sizes(context=32768), eps(1e-6)),
                kinds=(
                    MIXING,
                    sparse(
                        dense=(Key("intermediate_size", ("ffn.hidden",), REQUIRED), GatedRow(ours="ffn")),
                        mixture=(
                            Key("num_experts", ("ffn.experts",), 512),
                            *chosen("ffn", per_token=10, balance=0.001, hidden="moe_intermediate_size"),
                            Key("norm_topk_prob", ("ffn.router.normalise",), **(NORMALISE | {"default": True})),
                            Key("shared_expert_intermediate_size", ("ffn.shared",), 512),
                            Start("ffn.shared_gate", "sigmoid"),
                        ),
                    ),
                ),
            ),
        ),
        weights=(
            *ENDS,
            *PRE_NORMS,
            *LINEAR,
            *BIASED_ATTENTION,
            *QK_NORMS,
            *MLP,
            ROUTER,
            *EXPERTS,
            *matrices(T + "mlp.shared_expert.", O + "ffn.shared.", GATE_UP_DOWN),
            Rule(T + "mlp.shared_expert_gate.weight", O + "ffn.shared_gate.weight"),
            *AHEAD,
        ),
        base="model.",
    )
)
