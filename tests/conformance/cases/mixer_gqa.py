"""Grouped-query attention: shared heads, windows, biases, no positions; scores capped, normed and sunk; a gate."""

CASES = [
    {"kind": "gqa", "heads": 4, "kv_heads": 2},
    {"kind": "gqa", "heads": 4, "window": 5},
    {"kind": "gqa", "heads": 4, "kv_heads": 1, "head_dim": 6, "bias": "all"},
    {"kind": "gqa", "heads": 2, "position": "none"},
    {"kind": "gqa", "heads": 6, "kv_heads": 2, "head_dim": 10, "softcap": 20.0, "scale": 0.2, "qk_norm": "rmsnorm"},
    {"kind": "gqa", "heads": 4, "sinks": "learned", "window": 7, "qk_norm": "rmsnorm", "qk_norm_over": "projection"},
    {"kind": "gqa", "heads": 3, "kv_heads": 1, "head_dim": 8, "gate": "sigmoid", "qk_norm": "rmsnorm", "bias": "qkv"},
    {"kind": "gqa", "heads": 2, "kv_heads": 1, "qk_norm": {"kind": "layernorm", "weight": "none"}, "qk_gain": "each"},
]
