"""Mixtral: Mistral whose layers choose two of eight networks for each token."""

from __future__ import annotations

from hanok.model.families import FAMILIES
from hanok.model.families.decoder import (
    ENDS,
    PLAIN_ATTENTION,
    PRE_NORMS,
    Heads,
    O,
    Only,
    T,
    eps,
    matrices,
    sizes,
    skeleton,
)
from hanok.model.families.mixture import MOE, chosen
from hanok.model.families.rows import BLOCK, RopeRow
from hanok.model.families.rule import Rule
from hanok.model.families.table import Family, Key

MIXTRAL = FAMILIES.register("mixtral", paper="Jiang et al. 2024, arXiv 2401.04088")(
    Family(
        model_type="mixtral",
        architecture="MixtralForCausalLM",
        skeleton=skeleton(block={"ffn": MOE}),
        config=(
            *sizes(context=131072),
            eps(1e-5),
            Heads(8),
            RopeRow(BLOCK + "mixer.position", default_theta=1e6),
            Key("sliding_window", (BLOCK + "mixer.window",)),
            Key("num_local_experts", (BLOCK + "ffn.experts",), 8),
            *chosen(BLOCK + "ffn", per_token=2, balance=0.001, hidden="intermediate_size"),
            Only("router_jitter_noise", (0.0, 0, None)),
        ),
        weights=(
            *ENDS,
            *PRE_NORMS,
            *PLAIN_ATTENTION,
            Rule(T + "block_sparse_moe.gate.weight", O + "ffn.router.weight"),
            *matrices(
                T + "block_sparse_moe.experts.{e}.", O + "ffn.experts.", [("w1", "gate"), ("w3", "up"), ("w2", "down")]
            ),
        ),
        base="model.",
    )
)
