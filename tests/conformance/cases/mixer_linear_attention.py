"""Linear attention: odd sizes of heads, values of another size than keys, one head."""

CASES = [
    {"kind": "linear_attention", "heads": 4},
    {"kind": "linear_attention", "heads": 3, "head_dim": 7, "value_dim": 5, "bias": "all"},
    {"kind": "linear_attention", "heads": 1, "value_dim": 33, "bias": "qkv"},
]
