"""Mamba-2, as `Mamba2ForCausalLM`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.rows import flag
from hanok.model.families.rule import Rule
from hanok.model.families.state_rows import MIXER, STACK, BiasRow, O, StepRow, T, WidthRow, backbone, state_rules
from hanok.model.families.table import REQUIRED, Always, Family, Json, Key, get, put

INFINITY = {"__float__": "Infinity"}  # how transformers 5 says it, since JSON cannot


@dataclass(frozen=True)
class HeadsRow:
    """Heads and their size, of which the first follows from the second."""

    def read(self, theirs: Json, ours: Json) -> None:
        heads, size, width = theirs.get("num_heads", 128), theirs.get("head_dim", 64), get(ours, MIXER + "width")
        if not isinstance(heads, int) or not isinstance(size, int) or heads * size != width:
            raise UsageError(
                f"config.json: num_heads ({heads!r}) * head_dim ({size!r}) must be the inner width, {width}"
            )
        put(ours, MIXER + "head_dim", size)

    def write(self, ours: Json, theirs: Json) -> None:
        mixer = get(ours, "layers.block.mixer")
        theirs["num_heads"], theirs["head_dim"] = mixer["width"] // mixer["head_dim"], mixer["head_dim"]


def _read_limit(value: Any) -> list[float | None]:
    try:
        low, high = value
        top = math.inf if high == INFINITY else float(high)
        return [float(low), None if top == math.inf else top]
    except (TypeError, ValueError):
        raise UsageError(f"config.json: time_step_limit must be two numbers, not {value!r}") from None


def _write_limit(value: list[float | None]) -> list[Any]:
    low, high = value
    return [low, INFINITY if high is None else high]


MAMBA2 = FAMILIES.register("mamba2", paper="Dao and Gu 2024, arXiv 2405.21060")(
    Family(
        model_type="mamba2",
        architecture="Mamba2ForCausalLM",
        skeleton={**STACK, "layers": {"block": {**STACK["layers"]["block"], "mixer": {"kind": "mamba2"}}}},
        config=(
            Key("vocab_size", ("vocab",), REQUIRED),
            Key("hidden_size", ("dim",), REQUIRED),
            Key("num_hidden_layers", ("depth",), REQUIRED),
            Key("max_position_embeddings", ("context",), 2048),
            Key("layer_norm_epsilon", (MIXER + "eps", "layers.block.norm.eps", "norm.eps"), 1e-5),
            Key("tie_word_embeddings", ("embeddings",), **flag("tied", "untied")),
            Key("state_size", (MIXER + "state",), 128),
            Key("conv_kernel", (MIXER + "conv",), 4),
            Key("n_groups", (MIXER + "groups",), 8),
            Key("time_step_limit", (MIXER + "limit",), [0.0, INFINITY], _read_limit, _write_limit),
            WidthRow("expand", MIXER + "width"),
            HeadsRow(),
            BiasRow("use_bias", "use_conv_bias", MIXER + "bias"),
            StepRow(),
            Always("hidden_act", "silu", also=("swish",)),
        ),
        weights=backbone(
            (
                *state_rules(T + "mixer.", O + "mixer."),
                Rule(T + "mixer.dt_bias", O + "mixer.dt_bias"),
                Rule(T + "mixer.norm.weight", O + "mixer.norm_weight"),
            )
        ),
        base="backbone.",
    )
)
