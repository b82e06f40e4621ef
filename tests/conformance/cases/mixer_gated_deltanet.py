"""Gated DeltaNet: one value head per key head, several, odd sizes."""

CASES = [
    {"kind": "gated_deltanet", "heads": 4},
    {"kind": "gated_deltanet", "heads": 2, "value_heads": 4, "head_dim": 8, "value_dim": 6},
    {"kind": "gated_deltanet", "heads": 3, "head_dim": 5, "value_dim": 7, "conv": 2},
]
