"""Gemma: embeddings times the root of the width, gains around 1, and a network gated by GELU."""

from __future__ import annotations

from dataclasses import dataclass

from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ATTENTION_BIAS,
    BIASED_ATTENTION,
    ENDS,
    HIDDEN,
    MLP,
    PRE_NORMS,
    GatedRow,
    Heads,
    Only,
    RootRow,
    eps,
    sizes,
    skeleton,
)
from hanok.model.families.rows import BLOCK, RopeRow
from hanok.model.families.table import Family, Json, Row

TANH = "gelu_pytorch_tanh"
GAIN = {"kind": "rmsnorm", "offset": 1.0}
CAUSAL = Only("use_bidirectional_attention", (None, False))


@dataclass(frozen=True)
class TanhRow:
    """An activation of which the first files say "gelu" for its approximation by tanh."""

    row: Row

    def read(self, theirs: Json, ours: Json) -> None:
        self.row.read({**theirs, "hidden_act": TANH} if theirs.get("hidden_act") == "gelu" else theirs, ours)

    def write(self, ours: Json, theirs: Json) -> None:
        self.row.write(ours, theirs)


GEMMA = FAMILIES.register("gemma", paper="Gemma Team 2024, arXiv 2403.08295")(
    Family(
        model_type="gemma",
        architecture="GemmaForCausalLM",
        skeleton=skeleton(norm=GAIN),
        config=(
            *sizes(context=8192, embeddings="tied"),
            HIDDEN,
            eps(1e-6),
            RootRow(),
            TanhRow(GatedRow(default=TANH)),
            ATTENTION_BIAS,
            Heads(16, 256),
            RopeRow(BLOCK + "mixer.position"),
            CAUSAL,
        ),
        weights=(*ENDS, *PRE_NORMS, *BIASED_ATTENTION, *MLP),
        base="model.",
    )
)
