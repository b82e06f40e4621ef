"""Mistral 7B and what is saved as `MistralForCausalLM`: LLaMA whose layers may all have a window."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ENDS,
    HIDDEN,
    MLP,
    PLAIN_ATTENTION,
    PRE_NORMS,
    GatedRow,
    Heads,
    Only,
    eps,
    sizes,
    skeleton,
)
from hanok.model.families.rows import BLOCK, RopeRow
from hanok.model.families.table import Family, Key

MISTRAL = FAMILIES.register("mistral", paper="Jiang et al. 2023, arXiv 2310.06825")(
    Family(
        model_type="mistral",
        architecture="MistralForCausalLM",
        skeleton=skeleton(),
        config=(
            *sizes(context=131072),
            HIDDEN,
            eps(1e-6),
            GatedRow(),
            Heads(8),
            RopeRow(BLOCK + "mixer.position"),
            Key("sliding_window", (BLOCK + "mixer.window",), 4096),
            Only("layer_types", (None,)),
        ),
        weights=(*ENDS, *PRE_NORMS, *PLAIN_ATTENTION, *MLP),
        base="model.",
    )
)
