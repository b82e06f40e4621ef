"""DeepSeek-V2 and V2-Lite: latent attention, and fine-grained experts chosen by softmax, within groups or freely."""

from __future__ import annotations

from dataclasses import dataclass

from hanok.core.errors import UsageError
from hanok.model.families import FAMILIES
from hanok.model.families.deepseek_v3 import MOE, ROPE, SKELETON, shared_rows, shared_rules
from hanok.model.families.table import Always, Family, Json, Key, get, put

ROUTER = MOE + "ffn.router"


@dataclass(frozen=True)
class RouterRow:
    """The way experts are chosen: the best of all, or the best within the best groups."""

    def read(self, theirs: Json, ours: Json) -> None:
        method = theirs.get("topk_method", "greedy")
        router: Json = {"kind": "group_limited", "normalise": "none", "groups": 1, "groups_per_token": 1}
        if method == "group_limited_greedy":
            router |= {"groups": theirs.get("n_group"), "groups_per_token": theirs.get("topk_group")}
        elif method != "greedy":
            raise UsageError(f"config.json: topk_method = {method!r} is not supported (greedy, group_limited_greedy)")
        put(ours, ROUTER, router | {"scale": theirs.get("routed_scaling_factor", 1.0)})

    def write(self, ours: Json, theirs: Json) -> None:
        router = get(ours, ROUTER)
        if router["kind"] != "group_limited" or router["normalise"] != "none":
            raise KeyError(ROUTER)
        free = router["groups"] == router["groups_per_token"]
        theirs |= {"topk_method": "greedy" if free else "group_limited_greedy"}
        theirs |= {"routed_scaling_factor": router["scale"]}
        if not free:
            theirs |= {"n_group": router["groups"], "topk_group": router["groups_per_token"]}


@dataclass(frozen=True)
class InterleavedRow:
    """Rotary pairs lie side by side in this family's files."""

    def read(self, theirs: Json, ours: Json) -> None:
        put(ours, ROPE + ".layout", "interleaved")

    def write(self, ours: Json, theirs: Json) -> None:
        if get(ours, ROPE + ".layout") != "interleaved":
            raise KeyError(ROPE)


DEEPSEEK_V2 = FAMILIES.register("deepseek_v2", paper="DeepSeek-AI 2024, arXiv 2405.04434")(
    Family(
        model_type="deepseek_v2",
        architecture="DeepseekV2ForCausalLM",
        skeleton=SKELETON,
        config=(
            Always("scoring_func", "softmax"),
            Always("norm_topk_prob", False, also=(None,)),
            Always("moe_layer_freq", 1),
            InterleavedRow(),
            RouterRow(),
            Key(
                "mlp_bias",
                ("layers.dense.ffn.bias", MOE + "ffn.expert.bias"),
                False,
                lambda on: "all" if on else "none",
                lambda word: {"all": True, "none": False}[word],
            ),
            *shared_rows(),
        ),
        weights=shared_rules(),
        base="model.",
    )
)
