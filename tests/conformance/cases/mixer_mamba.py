"""Mamba: the paper's sizes, odd sizes with every bias, Jamba's norms, no bias at all."""

CASES = [
    {"kind": "mamba"},
    {"kind": "mamba", "width": 37, "state": 5, "conv": 2, "rank": 3, "bias": "all"},
    {"kind": "mamba", "state": 7, "norm": "rmsnorm", "bias": "none"},
    {"kind": "mamba", "width": 24, "state": 1, "conv": 1, "bias": "proj"},
]
