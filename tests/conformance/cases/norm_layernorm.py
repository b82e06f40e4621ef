"""LayerNorm: with both learned parts, with a gain alone, and OLMo's with neither."""

CASES = [
    {"kind": "layernorm"},
    {"kind": "layernorm", "eps": 1e-3, "bias": "none"},
    {"kind": "layernorm", "weight": "none", "bias": "none"},
]
