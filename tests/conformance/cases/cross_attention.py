"""Cross-attention: shared key heads, odd sizes, biases, scores that are not scaled."""

CASES = [
    {"kind": "attention", "heads": 4},
    {"kind": "attention", "heads": 6, "kv_heads": 2, "head_dim": 5, "bias": "all"},
    {"kind": "attention", "heads": 3, "kv_heads": 1, "head_dim": 7, "scale": 1.0},
]
