"""Mamba, as `MambaForCausalLM`."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.rows import flag
from hanok.model.families.state_rows import (
    MIXER,
    STACK,
    BiasRow,
    O,
    StepRow,
    T,
    WidthRow,
    backbone,
    read_rank,
    selective_rules,
)
from hanok.model.families.table import REQUIRED, Always, Family, Key

MAMBA = FAMILIES.register("mamba", paper="Gu and Dao 2023, arXiv 2312.00752")(
    Family(
        model_type="mamba",
        architecture="MambaForCausalLM",
        skeleton={**STACK, "layers": {"block": {**STACK["layers"]["block"], "mixer": {"kind": "mamba"}}}},
        config=(
            Key("vocab_size", ("vocab",), REQUIRED),
            Key("hidden_size", ("dim",), REQUIRED),
            Key("num_hidden_layers", ("depth",), REQUIRED),
            Key("max_position_embeddings", ("context",), 2048),
            Key("layer_norm_epsilon", ("layers.block.norm.eps", "norm.eps"), 1e-5),
            Key("tie_word_embeddings", ("embeddings",), **{**flag("tied", "untied"), "default": True}),
            Key("state_size", (MIXER + "state",), 16),
            Key("conv_kernel", (MIXER + "conv",), 4),
            Key("time_step_rank", (MIXER + "rank",), "auto", read_rank),
            WidthRow("expand", MIXER + "width"),
            BiasRow("use_bias", "use_conv_bias", MIXER + "bias"),
            StepRow(),
            Always("hidden_act", "silu", also=("swish",)),
        ),
        weights=backbone(selective_rules(T + "mixer.", O + "mixer.")),
        base="backbone.",
    )
)
