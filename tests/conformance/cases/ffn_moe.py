"""Mixtures whose tokens depend on themselves alone; routers that say otherwise have their own cases."""

CASES = [
    {"kind": "moe", "experts": 4, "expert": {"kind": "swiglu", "hidden": 24}},
    {
        "kind": "moe",
        "experts": 7,
        "router": {"kind": "topk", "per_token": 3, "bias": "logits"},
        "expert": {"kind": "swiglu_clamped", "hidden": 11, "bias": "all"},
    },
    {
        "kind": "moe",
        "experts": 8,
        "router": {"kind": "sigmoid_group", "per_token": 2, "groups": 4, "groups_per_token": 2, "scale": 2.5},
        "expert": {"kind": "swiglu", "hidden": 16},
        "shared": 32,
    },
    {
        "kind": "moe",
        "experts": 5,
        "router": {"kind": "switch"},
        "expert": {"kind": "mlp", "hidden": 16, "activation": "relu"},
        "shared": 9,
        "shared_gate": "sigmoid",
    },
]
