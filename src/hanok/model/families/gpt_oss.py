"""GPT-OSS: windows in every other layer, learned sinks, and a mixture of experts whose gates are kept within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ATTENTION_BIAS,
    BIASED_ATTENTION,
    ENDS,
    PRE_NORMS,
    Absent,
    Heads,
    O,
    Only,
    T,
    eps,
    sizes,
    skeleton,
)
from hanok.model.families.gemma2 import alternating
from hanok.model.families.pattern import Layers, WindowRow, windows
from hanok.model.families.rows import BLOCK, RopeRow
from hanok.model.families.rule import TRANSPOSE, Rule, Shapes
from hanok.model.families.table import REQUIRED, Family, Json, Key

FFN = {
    "kind": "moe",
    "router": {"kind": "topk", "bias": "logits", "normalise": "sum"},
    "expert": {"kind": "swiglu_clamped", "bias": "all"},
}
YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


class PackedRow:
    """The published files hold experts in MXFP4, blocks of 32 numbers of 4 bits, which we do not read."""

    def read(self, theirs: Json, ours: Json) -> None:
        packed: Any = theirs.get("quantization_config")
        if isinstance(packed, dict) and packed.get("quant_method") == "mxfp4":
            raise UsageError(
                "config.json: the experts are packed as MXFP4 (quantization_config), which is not supported; unpack "
                "them once with transformers: from_pretrained(path, quantization_config=Mxfp4Config(dequantize=True)), "
                "then save_pretrained"
            )

    def write(self, ours: Json, theirs: Json) -> None:
        """Our files are not packed so."""


class Alternating:
    """Two of ours in turn along their last dimension: matrices (E, in, 2 out), biases (E, 2 out)."""

    def split(self, theirs: Tensor, shapes: Shapes) -> Sequence[Tensor]:
        return [_turned(theirs[..., first::2]) for first in range(2)]

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        return torch.stack([_turned(x) for x in ours], -1).flatten(-2)


def _turned(x: Tensor) -> Tensor:
    return x.transpose(-1, -2) if x.dim() == 3 else x


EXPERTS, ALTERNATING = O + "ffn.experts.", Alternating()

GPT_OSS = FAMILIES.register("gpt_oss", paper="OpenAI 2025, arXiv 2508.10925")(
    Family(
        model_type="gpt_oss",
        architecture="GptOssForCausalLM",
        skeleton=skeleton(mixer={"sinks": "learned"}, block={"ffn": FFN}),
        config=(
            PackedRow(),
            Layers(
                rows=(
                    *sizes(context=131072),
                    eps(1e-5),
                    Absent({"attention_bias": True}, ATTENTION_BIAS),
                    Heads(8, 64),
                    Absent({"rope_scaling": YARN}, RopeRow(BLOCK + "mixer.position", default_theta=150000.0)),
                    Key("num_local_experts", (BLOCK + "ffn.experts",), 128),
                    Key("num_experts_per_tok", (BLOCK + "ffn.router.per_token",), 4),
                    Key("router_aux_loss_coef", (BLOCK + "ffn.router.balance",), 0.001),
                    Key("intermediate_size", (BLOCK + "ffn.expert.hidden",), REQUIRED),
                    Key("swiglu_alpha", (BLOCK + "ffn.expert.alpha",), 1.702),
                    Key("swiglu_limit", (BLOCK + "ffn.expert.limit",), 7.0),
                    Only("hidden_act", ("silu",)),
                ),
                kinds=(windows(alternating, local=(WindowRow(128),)),),
            ),
        ),
        weights=(
            *ENDS,
            *PRE_NORMS,
            *BIASED_ATTENTION,
            Rule(T + "self_attn.sinks", O + "mixer.sinks"),
            Rule(T + "mlp.router.weight", O + "ffn.router.weight"),
            Rule(T + "mlp.router.bias", O + "ffn.router.bias"),
            Rule(T + "mlp.experts.gate_up_proj", (EXPERTS + "gate.weight", EXPERTS + "up.weight"), ALTERNATING),
            Rule(T + "mlp.experts.gate_up_proj_bias", (EXPERTS + "gate.bias", EXPERTS + "up.bias"), ALTERNATING),
            Rule(T + "mlp.experts.down_proj", EXPERTS + "down.weight", TRANSPOSE),
            Rule(T + "mlp.experts.down_proj_bias", EXPERTS + "down.bias"),
        ),
        base="model.",
    )
)
