"""Gemma 3, the text model: five local layers to a global one, which turn positions at different rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ATTENTION_BIAS,
    BIASED_ATTENTION,
    ENDS,
    HIDDEN,
    MLP,
    QK_NORMS,
    GatedRow,
    Heads,
    InverseRootRow,
    Only,
    RootRow,
    eps,
    sizes,
    skeleton,
)
from hanok.model.families.gemma import CAUSAL, GAIN, TANH
from hanok.model.families.gemma2 import SANDWICH
from hanok.model.families.pattern import Layers, WindowRow, windows
from hanok.model.families.rows import BLOCK, RopeRow
from hanok.model.families.table import Family, Json, Key


def every_sixth(theirs: Json, depth: int) -> Sequence[str]:
    """Return local layers of which each `sliding_window_pattern`-th is global."""
    period: Any = theirs.get("sliding_window_pattern", theirs.get("_sliding_window_pattern", 6))
    if not isinstance(period, int) or period < 1:
        raise UsageError(f"config.json: sliding_window_pattern must be a whole number above 0, not {period!r}")
    return ["local" if (layer + 1) % period else "global" for layer in range(depth)]


@dataclass(frozen=True)
class OwnRopeRow:
    """Rotary positions of one kind of layer: `rope_parameters` by kind (transformers 5), or a base of its own (4)."""

    kind: str
    base: str  # where version 4 keeps the base
    theta: float
    scaling: str | None = None  # where version 4 keeps the scaling

    def read(self, theirs: Json, ours: Json) -> None:
        kinds: Any = theirs.get("rope_parameters") or {}
        if not isinstance(kinds, dict) or not isinstance(kinds.get(self.kind) or {}, dict):
            raise UsageError(f"config.json: rope_parameters must hold {self.kind!r} of its own, not {kinds!r}")
        seen = {key: value for key, value in theirs.items() if key not in ("rope_theta", "rope_scaling")}
        seen["rope_theta"] = theirs.get(self.base) or self.theta
        seen["rope_parameters"] = kinds.get(self.kind)
        seen["rope_scaling"] = theirs.get(self.scaling) if self.scaling else None
        RopeRow("mixer.position").read(seen, ours)

    def write(self, ours: Json, theirs: Json) -> None:
        alone: Json = {}
        RopeRow("mixer.position").write(ours, alone)
        theirs.setdefault("rope_parameters", {})[self.kind] = alone["rope_parameters"]
        theirs[self.base] = alone["rope_theta"]
        if self.scaling:
            theirs[self.scaling] = alone["rope_scaling"]


LOCAL = OwnRopeRow("sliding_attention", "rope_local_base_freq", 1e4)
GLOBAL = OwnRopeRow("full_attention", "rope_theta", 1e6, "rope_scaling")

GEMMA3 = FAMILIES.register("gemma3_text", paper="Gemma Team 2025, arXiv 2503.19786")(
    Family(
        model_type="gemma3_text",
        architecture="Gemma3ForCausalLM",
        skeleton=skeleton(norm=GAIN, mixer={"qk_norm": GAIN}, block={"wiring": "sandwich"}),
        config=(
            Layers(
                rows=(
                    *sizes(context=131072, embeddings="tied"),
                    HIDDEN,
                    eps(1e-6, BLOCK + "mixer.qk_norm.eps"),
                    RootRow(),
                    GatedRow("hidden_activation", default=TANH),
                    ATTENTION_BIAS,
                    Heads(4, 256),
                    InverseRootRow("query_pre_attn_scalar", BLOCK + "mixer.scale", 256),
                    Key("final_logit_softcapping", ("head.softcap",)),
                    Only("attn_logit_softcapping", (None,)),
                    CAUSAL,
                ),
                kinds=(windows(every_sixth, local=(WindowRow(4096), LOCAL), full=(GLOBAL,)),),
            ),
        ),
        weights=(*ENDS, *SANDWICH, *BIASED_ATTENTION, *QK_NORMS, *MLP),
        base="model.",
    )
)
