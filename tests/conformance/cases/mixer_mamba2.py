"""Mamba-2: one group, several groups with a clamped step, odd sizes with every bias."""

CASES = [
    {"kind": "mamba2", "head_dim": 16, "state": 16},
    {"kind": "mamba2", "head_dim": 8, "groups": 4, "state": 6, "limit": [0.002, 0.05]},
    {"kind": "mamba2", "width": 33, "head_dim": 11, "groups": 3, "state": 5, "conv": 2, "bias": "all"},
    {"kind": "mamba2", "width": 24, "head_dim": 24, "state": 9, "conv": 1, "bias": "none"},
]
