"""Retention: the paper's value size, odd sizes, no rotation."""

CASES = [
    {"kind": "retention", "heads": 4},
    {"kind": "retention", "heads": 3, "head_dim": 6, "value_dim": 11},
    {"kind": "retention", "heads": 2, "head_dim": 5, "position": "none"},
]
